"""What people want to know of, over what devices have told in a while."""

import pytest

from controller.fleet_config.actions import FleetText, all_alerts, apply_fleet, fleet_alerts
from controller.fleet_config.alerts import AlertResult, AlertState, alert_line, judged
from controller.fleet_config.fleet import Alert
from controller.fleet_config.reading import read_fleet
from controller.monitor.total import Sums, Total
from controller.rollout.gate.evidence import Sample
from controller.rollout.policy import Metric
from tests.controller.fleet_config.applying import FLEET, enrol, names, reported, world
from tests.controller.rollout.world import World

ERRORS = Alert("errors", "load", "fleet.error_rate > 0.05 and fleet.devices >= 2", 3600, "critical")


def sample(device: str, errors: float, inferences: int = 1000) -> Sample:
    return Sample(device, inferences, {Metric.ERROR_RATE: errors})


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([], AlertState.QUIET),  # fewer than two devices: whatever else is unknown
        ([sample("a", 0.5)], AlertState.QUIET),
        ([sample("a", 0.5), sample("b", 0.1)], AlertState.FIRING),
        ([sample("a", 0.01), sample("b", 0.02)], AlertState.QUIET),
        # One device that tells of a million requests outweighs no two others.
        ([sample("a", 1.0, 10**6), *(sample(f"b{n}", 0.0) for n in range(40))], AlertState.QUIET),
        ([Sample("a", 10, {}), Sample("b", 10, {})], AlertState.UNDECIDED),
    ],
)
def test_an_alert_holds_over_the_devices_on_average(told: list[Sample], state: AlertState) -> None:
    assert judged(ERRORS, told).state is state


def test_an_alert_is_said_with_its_numbers() -> None:
    result = judged(ERRORS, [sample("a", 0.5), sample("b", 0.1)])

    assert alert_line(result) == (
        "alert errors (critical) of load is firing: fleet.devices 2, fleet.error_rate 30 %"
    )
    slow = Alert("slow", "load", "fleet.latency_p99 > 1", 60, "info")
    assert alert_line(judged(slow, [])) == (
        "alert slow (info) of load is undecided: devices have told too little"
    )


def tell(made: World, device: str, version: int, failed: int, ago: float) -> None:
    at = int(1000 * (made.clock.at - ago))
    with made.store.begin() as tx:
        last = tx.totals.last(device, "load", version)
        before = last.sums if last else Sums()
        more = Sums(requests=100, failed=failed)
        tx.totals.add(Total(device, "load", version, at, before + more))


TEXT = (
    FLEET
    + """
[[alerts]]
name = "errors"
model = "load"
when = "fleet.error_rate>0.05"
over = "1h"
severity = "critical"
"""
)


def now_says(made: World, text: str = TEXT) -> AlertResult:
    with made.store.read() as tx:
        (result,) = fleet_alerts(tx, read_fleet(text, "f.toml"), made.clock.at)
    return result


def test_what_counts_is_what_the_fleet_s_devices_told_lately_of_any_version() -> None:
    made = world(*names(4))
    enrol(made, "lamp", kind="lamp")
    assert now_says(made).state is AlertState.UNDECIDED
    for name in (*names(4), "lamp"):
        reported(made, name, 1)
        tell(made, name, 1, failed=100, ago=7200)  # long ago
        tell(made, name, 1, failed=0, ago=60)
    tell(made, "lamp", 1, failed=100, ago=10)  # no meter

    assert now_says(made).state is AlertState.QUIET

    reported(made, "m000", 2)
    tell(made, "m000", 2, failed=100, ago=10)
    result = now_says(made)
    assert result.state is AlertState.FIRING
    # Who has answered more weighs more: 200 requests of m000, 100 of each other device.
    assert result.values == {"fleet.error_rate": pytest.approx(2 / 13)}


def test_alerts_of_every_fleet_are_read_together() -> None:
    made = world(*names(2))
    with made.store.begin() as tx:
        apply_fleet(tx, FleetText(TEXT), "ada", made.clock.at)
        other = TEXT.replace('"meters"', '"others"').replace("load/1", "load/2")
        apply_fleet(tx, FleetText(other), "ada", made.clock.at)
        stored = tx.fleets.get("others")
        assert stored is not None
    with made.store.read() as tx:
        found = [(fleet, one.alert.name) for fleet, one in all_alerts(tx, made.clock.at)]

    assert found == [("meters", "errors"), ("others", "errors")]
