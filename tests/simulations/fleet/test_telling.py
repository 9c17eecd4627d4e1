import pytest

from controller.monitor.total import Sums
from simulations.fleet.queue import EPOCH
from simulations.fleet.scenario_parser import parse
from simulations.fleet.simulation import Simulation
from simulations.fleet.truth import BASE_P99_SECONDS

SCENARIO = """\
fleet 30 devices
traffic 2 per second
version digits/1
version digits/2
  errors 5% on all after 10m
  slows 2x
  loses-confidence 10%
  drifts 50%
running digits/1
policy at-once
at 0m rollout start digits/2 to site=north
at 0m offline id=device-001 for 6h
until 12h
site north 50%
site south 50%
"""


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    played = Simulation(parse("test", SCENARIO), 1)
    played.run()
    return played


def told(simulation: Simulation, version: int, since: float = 3600.0) -> dict[str, Sums]:
    ends = {device.id: int(1000 * (EPOCH + since)) for device in simulation.devices}
    with simulation.centre.store.read() as tx:
        return dict(tx.totals.since("digits", version, ends))


def test_devices_tell_of_what_they_run_and_of_nothing_else(simulation: Simulation) -> None:
    new, old = told(simulation, 2), told(simulation, 1)

    north = {one.id for one in simulation.devices if one.labels["site"] == "north"}
    assert set(new) == north
    assert set(old) == {one.id for one in simulation.devices} - north


def test_what_they_tell_is_what_is_true(simulation: Simulation) -> None:
    sums = Sums()
    for one in told(simulation, 2).values():
        sums += one

    assert 0.045 < sums.failed / sums.requests < 0.07
    assert 0.78 < sums.confidence / sums.answers < 0.82
    assert 0.4 < sums.moved / sums.judged < 0.65
    p99 = sums.p99_seconds
    assert p99 is not None
    assert 1.5 < p99 / BASE_P99_SECONDS < 3.0


def test_who_asks_again_is_told_the_same_and_more() -> None:
    simulation = Simulation(parse("test", SCENARIO.replace("until 12h", "until 2h")), 1)
    simulation.run()
    before = told(simulation, 1)

    assert told(simulation, 1) == before
    simulation.ground.queue.now += 3600.0
    after = told(simulation, 1)
    assert all(after[device].requests > sums.requests for device, sums in before.items())


def test_a_device_that_is_away_has_told_what_it_told_before_it_left() -> None:
    away = SCENARIO.replace("at 0m offline", "at 2h offline").replace("for 6h", "for 9h")
    simulation = Simulation(parse("test", away), 1)
    simulation.run()
    simulation.ground.queue.now = 9 * 3600.0
    device = simulation.devices[0]
    device.linked, device.cut_at = False, 2 * 3600.0

    version = 2 if device.labels["site"] == "north" else 1
    assert told(simulation, version)["device-001"].judged == 12
