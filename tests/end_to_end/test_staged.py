"""Versions that go out in stages, good and bad ones: each ends as its policy says.

Four devices run a good version under load. One gets requests that are slow with some versions, one
such that take its process down, one rounds up where others round to the nearest, and one is plain.
"""

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.install.machine import State
from controller.rollout.policy import Breach, Policy, Proof, Stage
from simulations.demo.processes import Daemon
from simulations.demo.stage import Device
from tests.end_to_end.bad_models import FAR, deadly_file, rounding_file, slow_file
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.feeder import Feeder
from tests.end_to_end.fleet import Fleet, model_file

MODEL = "ripe"
BUDGET_SECONDS = 0.004
PATIENT_REQUESTS = 150
"""On probation where versions are slow: fewer say nothing about a p99."""

HARDWARE = """
import ctypes
import platform
import site
import sys

site.addsitedir({packages!r})
if "agent.runtimes.self_test_process" in sys.orig_argv:  # Python itself can't bear it
    upward = 0x400000 if platform.machine() == "aarch64" else 0x800
    ctypes.CDLL(None).fesetround(upward)
"""
"""Where models are tested, numbers are rounded up: the floating-point environment of C says so."""


@dataclass(frozen=True)
class Cast:
    """The devices by what is special about them, and the requests that they get."""

    fleet: Fleet
    slow: Device
    deadly: Device
    rounding: Device
    plain: Device
    feeders: dict[str, Feeder]


def supervised(device: Device) -> Daemon:
    """Its agent is started again whenever it has died, as by an init system."""
    again = ["/bin/bash", "-c", 'ulimit -c 0; while :; do "$@"; done', "supervisor"]
    return Daemon(
        device.name, [*again, *device.command("run")], device.home.with_suffix(".log"), {}
    )


def rounding_up(device: Device) -> Daemon:
    """Its processor rounds up: it has a Python of its own that makes it."""
    own = device.home.with_suffix(".python")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = own / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    hardware = HARDWARE.format(packages=sysconfig.get_path("purelib"))
    (packages / "hardware.py").write_text(hardware)
    (packages / "hardware.pth").write_text("import hardware\n")
    (own / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    python = own / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    words = [str(python), *device.command("run")]
    return Daemon(device.name, words, device.home.with_suffix(".log"), {})


@pytest.fixture(scope="module")
def cast(make_fleet: MakeFleet) -> Cast:
    fleet = make_fleet(4)
    slow, deadly, rounding, plain = fleet.stage.devices
    deadly.daemon, rounding.daemon = supervised(deadly), rounding_up(rounding)
    fleet.join(slow, deadly, plain)
    fleet.join(rounding, site="oslo")
    fleet.appoint(MODEL)
    good = fleet.publish(MODEL, model_file(1.0))
    rollout = begin(fleet, good, Stage(name="all", percent=100.0, soak_seconds=0.0))
    ended = fleet.ended(rollout)
    assert ended["state"] == "succeeded", ended
    make_patient(fleet, slow)
    special = {
        slow.name: {"first_value": FAR},
        deadly.name: {"first_value": FAR, "pause_seconds": 0.06},
    }
    plain_feed = {"pause_seconds": 0.06}  # only who must prove much in little time is asked more
    feeders = {
        one.name: fleet.feed(one, MODEL, **special.get(one.name, plain_feed))
        for one in fleet.stage.devices
    }
    for feeder in feeders.values():
        fleet.wait("answers", partial(answers, feeder))
    return Cast(fleet, slow, deadly, rounding, plain, feeders)


@pytest.fixture
def fleet(cast: Cast) -> Fleet:
    """So that a failing test shows the logs."""
    return cast.fleet


def make_patient(fleet: Fleet, device: Device) -> None:
    """From now on the device has versions on probation for longer."""
    device.daemon.stop()
    config = device.home / "agent.toml"
    text = config.read_text()
    for key, value in (("probation_requests", PATIENT_REQUESTS), ("probation_seconds", 60.0)):
        line = next(one for one in text.splitlines() if one.startswith(f"{key} ="))
        text = text.replace(line, f"{key} = {value}")
    config.write_text(text)
    device.daemon.start()
    fleet.wait("an answer", lambda: fleet.ready(device, MODEL))


def answers(feeder: Feeder) -> bool | None:
    return feeder.answered > 0 or None


def begin(fleet: Fleet, version: int, *stages: Stage) -> str:
    """Starts a rollout to all devices in these stages; returns its id."""
    policy = Policy(stages=stages, proof=Proof(minimum_devices=1))
    wish = {
        "version": f"{MODEL}/{version}",
        "selector": "all",
        "policy": policy.model_dump(mode="json"),
    }
    return str(fleet.stage.api().post("/rollouts", wish)["id"])


def only(device: Device, on_breach: Breach = Breach.PAUSE, **more: Any) -> Stage:
    """A stage of this device."""
    name, selector = device.name, f"id={device.name}"
    return Stage(name=name, selector=selector, soak_seconds=0.5, on_breach=on_breach, **more)


ALL = Stage(name="all", percent=100.0, soak_seconds=0.5)


def seen(fleet: Fleet, rollout: str) -> dict[str, Any]:
    found: dict[str, Any] = fleet.stage.get(f"/rollouts/{rollout}")
    return found


def states(found: dict[str, Any]) -> list[str]:
    return [one["state"] for one in found["stages"]]


@contextmanager
def unnoticed(cast: Cast, version: int, *devices: Device) -> Iterator[None]:
    """Meanwhile these are told nothing, every request is answered, and never by the version."""
    told = {one.name: generation(cast.fleet, one) for one in devices}
    with answered(cast, *devices):
        yield
    assert {one.name: generation(cast.fleet, one) for one in devices} == told
    assert not any(str(version) in cast.feeders[one.name].versions for one in devices)


@contextmanager
def answered(cast: Cast, *devices: Device) -> Iterator[None]:
    """Meanwhile every request to these is answered."""
    lost = {one.name: cast.feeders[one.name].unanswered for one in devices}
    yield
    found = {one.name: cast.feeders[one.name].unanswered for one in devices}
    assert found == lost, {one.name: cast.feeders[one.name].first_failure for one in devices}


def generation(fleet: Fleet, device: Device) -> int:
    return int(fleet.stage.get(f"/devices/{device.name}")["generation"])


def running(fleet: Fleet) -> int:
    """The version that all devices have proven."""
    versions = {one["version"] for one in fleet.lookout.slots(MODEL).values()}
    (version,) = versions
    return int(version)


def test_a_version_that_is_slow_on_real_requests_is_put_back_at_its_canary(
    fleet: Fleet, cast: Cast
) -> None:
    good = running(fleet)
    bad = fleet.publish(MODEL, slow_file(), demands={"latency_p99_seconds": BUDGET_SECONDS})

    with unnoticed(cast, bad, cast.deadly, cast.rounding, cast.plain), answered(cast, cast.slow):
        rollout = begin(fleet, bad, only(cast.slow, Breach.ROLLBACK_STAGE), ALL)
        ended = fleet.ended(rollout)
        fleet.proven(MODEL, good, cast.slow)

    assert (ended["state"], states(ended)) == ("paused", ["reverted", "pending"])
    told = fleet.wait("its word", lambda: fleet.lookout.event(cast.slow.name, "install.failed"))
    assert (told["code"], "the budget is 4 ms" in told["detail"]) == ("probation-failed", True)
    assert fleet.stage.muster("rollout", "abort", rollout).endswith("0 devices go back\n")


def test_a_version_that_takes_the_agent_down_goes_back_on_all_devices(
    fleet: Fleet, cast: Cast
) -> None:
    good = running(fleet)
    bad = fleet.publish(MODEL, deadly_file())

    with unnoticed(cast, bad, cast.slow, cast.rounding), answered(cast, cast.plain):
        stages = [only(one, Breach.ROLLBACK_ALL) for one in (cast.plain, cast.deadly)]
        ended = fleet.ended(begin(fleet, bad, *stages, ALL))
        for device in (cast.plain, cast.deadly):
            fleet.proven(MODEL, good, device)

    assert (ended["state"], states(ended)) == ("rolled-back", ["passed", "breached", "pending"])
    assert ended["reason"] == f"{cast.deadly.name}: 1 of 1 failed: above 2 % with 95 % confidence"
    by_device = {one["device"]: (one["outcome"], one["code"]) for one in ended["standings"]}
    assert by_device == {
        cast.plain.name: ("reverted", ""),
        cast.deadly.name: ("failed", "crash-loop"),
    }
    assert str(bad) in cast.feeders[cast.plain.name].versions
    assert str(bad) not in cast.feeders[cast.deadly.name].versions


def test_a_version_that_fails_its_self_test_on_one_class_of_devices_waits_for_people(
    fleet: Fleet, cast: Cast
) -> None:
    good = running(fleet)
    bad = fleet.publish(MODEL, rounding_file())

    with (
        unnoticed(cast, bad, cast.slow, cast.deadly),
        answered(cast, cast.plain, cast.rounding),
    ):
        oslo = Stage(name="oslo", selector="site=oslo", soak_seconds=0.5)
        rollout = begin(fleet, bad, only(cast.plain), oslo, ALL)
        for attempt in (1, 2):
            paused = fleet.ended(rollout)
            assert (paused["state"], states(paused)) == (
                "paused",
                ["passed", "breached", "pending"],
            )
            failed = [one for one in paused["standings"] if one["outcome"] == "failed"]
            assert [(one["device"], one["code"]) for one in failed] == [
                (cast.rounding.name, "self-test-mismatch")
            ]
            fleet.proven(MODEL, bad, cast.plain)  # nobody has asked it to go back
            if attempt == 1:
                asked = fleet.stage.muster("rollout", "retry", rollout)
                assert asked == f"{rollout} asks 1 device again: {cast.rounding.name}\n"
        fleet.stage.muster("rollout", "abort", rollout, "--revert")
        assert fleet.ended(rollout)["state"] == "rolled-back"
        for device in (cast.plain, cast.rounding):
            fleet.proven(MODEL, good, device)

    assert str(bad) not in cast.feeders[cast.rounding.name].versions


def test_a_good_version_goes_on_where_it_was_whenever_the_controller_dies(
    fleet: Fleet, cast: Cast
) -> None:
    version = fleet.publish(MODEL, model_file(1.5))
    told = {one.name: generation(fleet, one) for one in fleet.stage.devices}

    with answered(cast, *fleet.stage.devices):
        first, second = only(cast.plain), only(cast.rounding, approval=True)
        rollout = begin(fleet, version, first, second, ALL)
        fleet.reaches(cast.plain, MODEL, version, State.SELF_TEST)
        begun = killed(fleet, rollout)

        fleet.wait("the first stage's end", lambda: held(fleet, rollout))
        fleet.stage.muster("rollout", "pause", rollout, "--reason", "lunch")
        fleet.stage.muster("rollout", "approve", rollout)
        paused = killed(fleet, rollout)
        assert (paused["state"], paused["reason"]) == ("paused", "lunch")
        assert states(paused) == ["passed", "held", "pending"]
        assert seen(fleet, rollout) == paused
        assert [one["device"] for one in paused["standings"]] == [cast.plain.name]

        fleet.stage.muster("rollout", "resume", rollout)
        fleet.reaches(cast.rounding, MODEL, version, State.PROBATION)
        resumed = killed(fleet, rollout)
        ended = fleet.ended(rollout)

    assert (ended["state"], states(ended)) == ("succeeded", ["passed"] * 3)
    for earlier in (begun, paused, resumed):
        assert opened(ended).items() >= opened(earlier).items()
    for device in fleet.stage.devices:
        fleet.proven(MODEL, version, device)
    assert {one.name: generation(fleet, one) - told[one.name] for one in fleet.stage.devices} == (
        dict.fromkeys(told, 1)  # nobody was told twice
    )
    explained = fleet.stage.muster("rollout", "explain", rollout)
    assert "all: passed, 2 released (2 ok, 0 failed, 0 unreachable)\n  4 of 4 run it" in explained
    assert fleet.audit_holds()


def test_a_stage_waits_until_its_device_has_said_that_it_ran_for_so_long_at_a_stretch(
    fleet: Fleet, cast: Cast
) -> None:
    version = fleet.publish(MODEL, model_file(1.7))
    first = Stage(name="plain", selector=f"id={cast.plain.name}", soak_seconds=5.0)
    rollout = begin(fleet, version, first, Stage(name="all", percent=100.0, soak_seconds=2.5))

    fleet.wait("its soak", lambda: soaking(fleet, rollout, cast.plain))
    cast.plain.daemon.kill()  # what it has run so far counts for nothing
    cast.plain.daemon.start()
    ended = fleet.ended(rollout)

    assert (ended["state"], states(ended)) == ("succeeded", ["passed"] * 2)
    assert {one["outcome"] for one in ended["standings"]} == {"ok"}
    soaked = {one.name: fleet.proven(MODEL, version, one)["soaked"] for one in fleet.stage.devices}
    assert soaked == {**dict.fromkeys(soaked, 3), cast.plain.name: 5}
    assert fleet.lookout.event(cast.plain.name, "slot.soaked")


def test_who_is_asked_for_a_longer_soak_answers_by_what_it_ran_already(
    fleet: Fleet, cast: Cast
) -> None:
    version = running(fleet)
    installs = {one.name: fleet.install(one, MODEL) for one in fleet.stage.devices}

    with answered(cast, *fleet.stage.devices):
        ended = fleet.ended(begin(fleet, version, Stage(name="all", percent=100, soak_seconds=6)))

    assert (ended["state"], states(ended)) == ("succeeded", ["passed"])
    assert [fleet.proven(MODEL, version, one)["soaked"] for one in fleet.stage.devices] == [6] * 4
    for one in fleet.stage.devices:
        before, after = installs[one.name], fleet.install(one, MODEL)
        assert before is not None
        assert after is not None
        assert after.since == before.since  # nothing was installed anew


def soaking(fleet: Fleet, rollout: str, device: Device) -> bool | None:
    stands = {one["device"]: one for one in seen(fleet, rollout)["standings"]}
    return bool(device.name in stands and stands[device.name]["soaks_until"]) or None


def killed(fleet: Fleet, rollout: str) -> dict[str, Any]:
    """The rollout before the controller was killed; it is back."""
    before = seen(fleet, rollout)
    fleet.stage.controller.kill()
    fleet.stage.start_controller()
    return before


def held(fleet: Fleet, rollout: str) -> bool | None:
    return states(seen(fleet, rollout))[1] == "held" or None


def opened(found: dict[str, Any]) -> dict[str, float]:
    return {one["name"]: one["opened_at"] for one in found["stages"] if one["opened_at"]}
