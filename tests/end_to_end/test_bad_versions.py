"""Two models on one agent, and versions that turn out bad: the device itself ends them."""

from functools import partial

import pytest

from agent.install.machine import State
from simulations.demo.stage import Device, Pace
from tests.end_to_end.bad_models import FAR, cracked_file
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.feeder import Feeder
from tests.end_to_end.fleet import WINDOW_ROWS, Fleet, model_file, soon

GOOD = 1
"""The version of every model that the device has proven when a test begins."""


@pytest.fixture(scope="module")
def fleet(make_fleet: MakeFleet) -> Fleet:
    fleet = make_fleet(1, Pace(rows=WINDOW_ROWS, seconds=0.5, probation_seconds=2.0))
    (device,) = fleet.stage.devices
    fleet.join(device)
    rollouts = []
    for model in ("ripe", "one", "two", "gone"):
        fleet.appoint(model)
        assert fleet.publish(model, model_file(1.0)) == GOOD
        rollouts.append(fleet.start(model, GOOD, device))
    for rollout in rollouts:
        assert fleet.ended(rollout)["state"] == "succeeded"
    return fleet


@pytest.fixture
def device(fleet: Fleet) -> Device:
    return fleet.stage.devices[0]


def test_two_models_run_at_once_on_one_agent(fleet: Fleet, device: Device) -> None:
    feeders = {model: fleet.feed(device, model) for model in ("one", "two")}
    for feeder in feeders.values():
        fleet.wait("answers", partial(answered, feeder))
        feeder.pause()
        feeder.send(WINDOW_ROWS)

    for model, feeder in feeders.items():
        assert (feeder.first_failure, feeder.versions) == ("", {str(GOOD)})
        fleet.proven(model, GOOD, device)
        fleet.all_stored(device, model, feeder.answered)


def test_a_version_over_its_budget_fails_its_self_test_and_never_answers(
    fleet: Fleet, device: Device
) -> None:
    feeder = fleet.feed(device, "ripe")
    bad = fleet.publish("ripe", model_file(2.0), demands={"latency_p99_seconds": 1e-9})

    ended = fleet.ended(fleet.start("ripe", bad, device))

    assert [one["code"] for one in ended["standings"]] == ["self-test-slow"]
    feeder.pause()
    assert (feeder.first_failure, feeder.versions) == ("", {str(GOOD)})
    stays_in_quarantine(fleet, device, "ripe", bad)


def test_a_version_that_fails_real_requests_is_rolled_back_by_the_device_alone(
    fleet: Fleet, device: Device
) -> None:
    bad = fleet.publish("ripe", cracked_file())
    feeder = fleet.feed(device, "ripe", first_value=FAR)
    rollout = fleet.start("ripe", bad, device)
    fleet.reaches(device, "ripe", bad, State.PROBATION)
    fleet.stage.controller.kill()  # nobody tells the device what to do

    fleet.wait("failures", lambda: feeder.unanswered or None)
    failed = soon(lambda: fleet.failed(device, "ripe", bad), 0.05)
    before = feeder.answered
    fleet.wait("answers of the good version", lambda: feeder.answered > before or None)
    assert failed.code == "probation-failed"

    fleet.stage.start_controller()
    ended = fleet.ended(rollout)
    assert [one["code"] for one in ended["standings"]] == ["probation-failed"]
    feeder.pause()
    assert feeder.versions == {str(GOOD)}
    stays_in_quarantine(fleet, device, "ripe", bad)


def test_a_version_in_whose_probation_the_agent_dies_again_and_again_is_rolled_back(
    fleet: Fleet, device: Device
) -> None:
    bad = fleet.publish("ripe", model_file(2.5))
    rollout = fleet.start("ripe", bad, device)
    fleet.reaches(device, "ripe", bad, State.PROBATION)
    for deaths in range(1, 5):
        device.daemon.kill()
        device.daemon.start()
        soon(partial(fleet.resumed, device, "ripe", deaths), 0.02)

    ended = fleet.ended(rollout)

    assert [one["code"] for one in ended["standings"]] == ["crash-loop"]
    stays_in_quarantine(fleet, device, "ripe", bad)


def test_a_recall_ends_a_running_version_and_it_stays_ended(fleet: Fleet, device: Device) -> None:
    name = f"gone/{GOOD}"

    fleet.stage.muster("model", "recall", name, "--key", str(fleet.key), "--yes")
    fleet.wait("end of the version", lambda: None if fleet.ready(device, "gone") else True)
    slot = fleet.wait("the device's word", lambda: told(fleet, device, "gone"))
    assert (slot["code"], slot["running"]) == ("recalled", False)

    device.daemon.kill()
    device.daemon.start()
    fleet.wait("the other model", lambda: fleet.ready(device, "ripe"))
    assert not fleet.ready(device, "gone")
    assert "[conflict]" in fleet.refused("rollout", "start", name, "--to", "all")
    assert fleet.audit_holds()


def stays_in_quarantine(fleet: Fleet, device: Device, model: str, bad: int) -> None:
    """The good version answers, and asking for the bad one again is refused out of hand."""
    assert fleet.ready(device, model)
    fleet.proven(model, GOOD, device)
    again = fleet.ended(fleet.start(model, bad, device))
    assert [one["code"] for one in again["standings"]] == ["quarantined"]
    fleet.proven(model, GOOD, device)


def answered(feeder: Feeder) -> bool | None:
    return feeder.answered >= WINDOW_ROWS or None


def told(fleet: Fleet, device: Device, model: str) -> dict[str, object] | None:
    """The slot as the device has reported it, once that is no longer proven."""
    slots = fleet.stage.get(f"/devices/{device.name}")["slots"]
    of = [one for one in slots if one["model"] == model]
    return next((one for one in of if one["state"] == "failed"), None)
