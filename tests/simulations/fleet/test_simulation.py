import pytest

from agent.install.machine import State
from simulations.fleet.scenario_parser import parse
from simulations.fleet.simulation import Simulation

HEAD = """\
fleet 12 devices
version digits/1
version digits/2
running digits/1
policy at-once
at 0m rollout start digits/2 to all
until 1d
"""


def played(lines: str = "", seed: int = 1, head: str = HEAD) -> Simulation:
    simulation = Simulation(parse("test", head + lines), seed)
    simulation.run()
    return simulation


def states(simulation: Simulation) -> set[str]:
    return {one.state for device in simulation.devices for one in device.installs}


def test_every_device_proves_the_version() -> None:
    simulation = played()

    assert states(simulation) == {State.COMMITTED}
    assert len(simulation.ground.tally.committed["digits/2"]) == 12
    with simulation.centre.store.read() as tx:
        assert {one.version for one in tx.devices.slots()} == {2}


def test_the_same_seed_plays_the_same_and_another_one_another() -> None:
    lossy = "link delay 1s loss 30%\n"

    transcripts = [played(lossy, seed).transcript.text() for seed in (1, 1, 2)]

    assert transcripts[0] == transcripts[1]
    assert transcripts[0] != transcripts[2]


@pytest.mark.parametrize("moment", ["before-record", "after-record", "after-signing", "half-sent"])
def test_a_controller_that_crashes_anywhere_goes_on(moment: str) -> None:
    crash = f"at 0m crash controller {moment} for 5m\nat 0m"

    simulation = played(head=HEAD.replace("at 0m", crash))

    assert "starts again with what was stored" in simulation.transcript.text()
    assert len(simulation.ground.tally.committed["digits/2"]) == 12


@pytest.mark.parametrize(
    "state", ["verifying", "fetching", "self-test", "waiting", "switching", "probation"]
)
def test_a_power_cut_in_any_state_is_overcome(state: str) -> None:
    cut = f"at 0m power-cut all at {state}\nat 0m rollout"

    simulation = played(head=HEAD.replace("at 0m rollout", cut))

    assert f"lose power in {state}" in simulation.transcript.text()
    assert len(simulation.ground.tally.committed["digits/2"]) == 12


def test_power_that_goes_again_and_again_in_a_self_test_fails_the_install() -> None:
    cut = "at 0m power-cut 1 of devices at self-test 4 times\nat 0m rollout"

    simulation = played(head=HEAD.replace("at 0m rollout", cut))

    assert simulation.ground.tally.failures == {"crash-loop": 1}
    assert len(simulation.ground.tally.committed["digits/2"]) == 11


@pytest.mark.parametrize(
    "fault",
    [
        "loss 60% on all",
        "duplication 100% on all",
        "delay 20s on all",
        "offline all for 3h",
        "partition site=main for 3h",
        "disk-full all for 3h",
        "clock-skew all by 2h",
        "slow all by 3x",
    ],
)
def test_a_fault_delays_and_prevents_nothing(fault: str) -> None:
    simulation = played(head=HEAD.replace("at 0m", f"at 0m {fault}\nat 0m"))

    assert len(simulation.ground.tally.committed["digits/2"]) == 12
    assert not simulation.ground.tally.failures
    with simulation.centre.store.read() as tx:
        assert {one.version for one in tx.devices.slots()} == {2}


def test_reports_that_are_repeated_are_refused_and_lies_prove_nothing() -> None:
    simulation = played(
        head=HEAD.replace(
            "at 0m", "at 0m replays 1 of devices\nat 0m lies id=device-002 about its digest\nat 0m"
        )
    )

    assert "refuses a report: counter-replayed" in simulation.transcript.text()
    with simulation.centre.store.read() as tx:
        rollout = tx.rollouts.get("digits-2-1")
    assert rollout is not None
    assert rollout.state == "running"


def test_a_device_that_has_nothing_to_do_costs_nothing() -> None:
    short = played(head=HEAD.replace("until 1d", "until 3d"))
    long = played(head=HEAD.replace("until 1d", "until 300d"))

    assert short.ground.queue.done == long.ground.queue.done


def test_what_the_controller_refuses_is_told() -> None:
    simulation = played("at 1h rollout abort digits-9-9\n")

    assert "refuses (not-found)" in simulation.transcript.text()
