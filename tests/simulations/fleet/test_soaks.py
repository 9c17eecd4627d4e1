"""Simulated devices soak by virtual time, with the agent's own core, whatever clocks say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.rollout.rollout import State
from simulations.fleet.device import Device
from simulations.fleet.queue import EPOCH
from simulations.fleet.scenario_parser import parse
from simulations.fleet.simulation import Simulation

SOAK = 1800
SLOWEST = 30.0
"""Seconds from a device's report to what a turn makes of it."""
HEAD = """\
fleet 6 devices
version digits/1
version digits/2
running digits/1
policy at-once
  stages = [{name = "all", percent = 100, soak_seconds = 1800, deadline_seconds = 4e6}]
  silence_seconds = 4e6
at 0m rollout start digits/2 to all
until 1d
"""
JUMPS = st.lists(st.tuples(st.integers(1, 59), st.integers(-20 * 60, 20 * 60)), max_size=4)


class Watched:
    """A simulation, and when its rollout succeeded, in seconds since the beginning."""

    def __init__(self, lines: str, head: str = HEAD) -> None:
        self.simulation = Simulation(parse("test", head + lines), seed=1)
        self.succeeded_at = 0.0
        self.simulation.run(self._over)

    def _over(self) -> bool:
        with self.simulation.centre.store.read() as tx:
            over = tx.rollouts.all()[0].state is State.SUCCEEDED
        if over:
            self.succeeded_at = self.simulation.ground.queue.now
        return over

    def since(self) -> float:
        """When the last of the devices began to answer with what it answers with."""
        return max(count.since for one in self.simulation.devices for _, count in one.counts)

    def soaked(self) -> set[int]:
        """What the controller knows of the devices' soaks."""
        with self.simulation.centre.store.read() as tx:
            return {one.soaked for one in tx.devices.slots()}


@settings(max_examples=25)
@given(JUMPS, JUMPS)
def test_a_rollout_succeeds_when_its_last_device_has_soaked_wherever_clocks_are_set(
    controllers: list[tuple[int, int]], devices: list[tuple[int, int]]
) -> None:
    jumps = [f"at {at}m clock-jump controller by {by}m\n" for at, by in controllers]
    skews = [f"at {at}m clock-skew 3 of devices by {by}m\n" for at, by in devices]

    watched = Watched("".join([*jumps, *skews]))

    assert SOAK <= watched.succeeded_at - watched.since() <= SOAK + SLOWEST
    assert watched.soaked() == {SOAK}


@pytest.mark.parametrize("minutes", [10, 29])
def test_a_device_that_restarts_begins_again(minutes: int) -> None:
    watched = Watched(f"at {minutes}m power-cut 1 of devices\n")

    assert watched.since() > minutes * 60
    assert SOAK <= watched.succeeded_at - watched.since() <= SOAK + 120


def test_what_was_reached_outlives_a_restart() -> None:
    simulation = Simulation(parse("test", HEAD + "at 40m power-cut all\n"), seed=1)
    simulation.run()

    assert {soaked_on(one) for one in simulation.devices} == {SOAK}
    with simulation.centre.store.read() as tx:
        assert {one.soaked for one in tx.devices.slots()} == {SOAK}
        assert min(one.reported_at for one in tx.devices.slots()) > EPOCH + 40 * 60


def soaked_on(device: Device) -> int:
    (slot,) = device.slots.values()
    return slot.soaked


def test_who_ran_the_version_before_answers_a_later_rollout_at_once() -> None:
    watched = Watched("", HEAD.replace("digits/2 to all", "digits/1 to all"))

    assert 0 < watched.succeeded_at < 60, "every device has run it for an hour by then"
    assert watched.soaked() == {SOAK}


def test_a_device_that_lies_says_that_it_has_soaked_too() -> None:
    bad = HEAD.replace("version digits/2\n", "version digits/2\n  fails-self-test\n")
    simulation = Simulation(parse("test", bad + "at 0m lies 1 of devices about digits/2\n"), 1)
    simulation.run()

    with simulation.centre.store.read() as tx:
        said = [one for one in tx.devices.slots() if one.running and one.version == 2]
    assert [one.soaked for one in said] == [SOAK]
