"""What a real agent waits for, by its own clock, and what it tries again when people ask."""

from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from agent.install.machine import State
from controller.rollout.conditions import Conditions, Window
from controller.rollout.policy import AT_ONCE
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.fleet import Fleet, model_file

ZONE = ZoneInfo("Asia/Tokyo")


def begin(fleet: Fleet, version: int, conditions: Conditions) -> str:
    """Starts a rollout of the version to every device at once, under these conditions."""
    policy = AT_ONCE.model_copy(update={"conditions": conditions}).model_dump(mode="json")
    wish = {"version": f"ripe/{version}", "selector": "all", "policy": policy}
    return str(fleet.stage.api().post("/rollouts", wish)["id"])


def standing_of(fleet: Fleet, rollout: str) -> dict[str, Any]:
    """How the fleet's only device stands."""
    (standing,) = fleet.stage.get(f"/rollouts/{rollout}")["standings"]
    return dict(standing)


def test_a_closed_window_holds_the_switch_until_a_newer_directive_opens_it(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(1)
    (device,) = fleet.stage.devices
    with (device.home / "agent.toml").open("a") as configuration:
        configuration.write(f'[device]\ntimezone = "{ZONE.key}"\n')
    fleet.join(device)
    assert fleet.stage.get(f"/devices/{device.name}")["facts"]["timezone"] == ZONE.key
    fleet.appoint("ripe")
    first = fleet.publish("ripe", model_file(1.0))
    assert fleet.ended(begin(fleet, first, Conditions()))["state"] == "succeeded"
    feeder = fleet.feed(device, "ripe")
    second = fleet.publish("ripe", model_file(2.0))

    # It is open now where the controller is, and opens in some fifteen hours where the device is.
    opens = f"{datetime.now(UTC).hour:02}:00"
    held = begin(fleet, second, Conditions(windows=(Window(start=opens, minutes=120),)))

    def waits() -> dict[str, Any] | None:
        standing = standing_of(fleet, held)
        return standing if standing["code"] == "outside-window" else None

    standing = fleet.wait("a report of the wait", waits)
    assert (standing["outcome"], standing["doing"]) == ("deferred", "waiting")
    assert f" {opens} {ZONE.key}, in " in standing["detail"]
    install = fleet.install(device, "ripe")
    assert install is not None
    assert (install.state, install.tries, install.resumptions) == (State.WAITING, 0, 0)
    (told,) = device.status()["installs"]
    assert told["detail"].startswith("opens on ")
    feeder.pause()
    assert (feeder.first_failure, feeder.versions) == ("", {str(first)})

    assert fleet.ended(begin(fleet, second, Conditions()))["state"] == "succeeded"
    fleet.proven("ripe", second, device)


def test_a_version_that_failed_is_tried_again_when_people_ask_and_not_before(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(1)
    (device,) = fleet.stage.devices
    fleet.join(device)
    fleet.appoint("ripe")
    bad = fleet.publish("ripe", model_file(1.0), demands={"latency_p99_seconds": 1e-9})

    def failed(rollout: str, generation: int) -> dict[str, Any] | None:
        install, standing = fleet.failed(device, "ripe", bad), standing_of(fleet, rollout)
        newer = install is not None and install.generation > generation
        return standing if newer and standing["outcome"] == "failed" else None

    rollout, seen = begin(fleet, bad, Conditions()), 0
    for attempt in (1, 2):
        if attempt > 1:
            fleet.stage.api().post(f"/rollouts/{rollout}/retry", {})
        standing = fleet.wait("a failure", partial(failed, rollout, seen))
        assert standing["code"] == "self-test-slow", "it was tried"
        (kept,) = device.status()["quarantines"]
        assert (kept["version"], kept["rollout"], kept["attempt"]) == (bad, rollout, attempt)
        install = fleet.install(device, "ripe")
        assert install is not None
        seen = install.generation

    again = begin(fleet, bad, Conditions())
    standing = fleet.wait("a refusal", partial(failed, again, seen))
    assert standing["code"] == "quarantined", "a newer rollout has not asked for another attempt"
