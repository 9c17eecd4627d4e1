"""``kill -9`` of an agent at many moments: started again, it comes to the same end."""

import random
import time
from dataclasses import dataclass, field

import pytest

from agent.install.machine import State
from simulations.demo.processes import Daemon, ProcessFailed, run_command
from simulations.demo.stage import Device
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.feeder import Feeder
from tests.end_to_end.fleet import WINDOW_ROWS, Fleet, model_file, soon

MODEL = "ripe"
KEPT_WITHIN = 4.0
"""The stage's agents write counts every second (``checkpoint_seconds``); the rest is for a busy machine."""


@dataclass
class Course:
    """A device under load, and two versions that it is sent through.

    Attributes:
        kept: rows on some disk when the agent was last killed.
        answered, unanswered: rows of requests up to then.
    """

    fleet: Fleet
    device: Device
    feeder: Feeder
    versions: list[int]
    at: int = 0
    kept: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)
    unanswered: int = field(default=0, init=False)

    def next_version(self) -> int:
        """A version that does not run: its files must be fetched."""
        self.at = (self.at + 1) % len(self.versions)
        return self.versions[self.at]

    def kill(self) -> None:
        """Kills the agent and takes down what its disk has kept: all but the last moment's rows."""
        moment, feeder = time.monotonic(), self.feeder
        self.device.daemon.kill()
        feeder.pause()
        kept = self.fleet.counted(self.device, MODEL)
        least = feeder.answered_until(moment - KEPT_WITHIN) - self.answered
        most = feeder.answered + feeder.unanswered - self.answered - self.unanswered
        assert least <= kept - self.kept <= most, (least, kept, self.kept, most)
        self.kept, self.answered, self.unanswered = kept, feeder.answered, feeder.unanswered

    def restart(self) -> None:
        """Starts the agent again, under load."""
        self.device.daemon.start()
        self.feeder.resume()

    def answers_again(self) -> None:
        """Returns when one more request was answered."""
        answered = self.feeder.answered
        self.fleet.wait("an answer", lambda: self.feeder.answered > answered or None)

    @property
    def rows(self) -> int:
        """How many must be counted: what was kept, and every answer since."""
        return self.kept + self.feeder.answered - self.answered


@pytest.fixture(scope="module")
def course(make_fleet: MakeFleet) -> Course:
    fleet = make_fleet(3)
    device = fleet.stage.devices[0]
    fleet.join(device)
    fleet.appoint(MODEL)
    versions = [fleet.publish(MODEL, model_file(scale)) for scale in (1.0, 1.25)]
    fleet.roll_out(MODEL, versions[0], device)
    return Course(fleet, device, fleet.feed(device, MODEL), versions)


@pytest.fixture
def fleet(course: Course) -> Fleet:
    """So that a failing test shows the logs."""
    return course.fleet


@pytest.mark.parametrize(
    "state", [State.VERIFYING, State.FETCHING, State.SELF_TEST, State.PROBATION]
)
def test_an_agent_killed_while_it_installs_ends_with_the_version_and_every_row(
    fleet: Fleet, course: Course, state: State
) -> None:
    version = course.next_version()
    rollout = fleet.start(MODEL, version, course.device)
    fleet.reaches(course.device, MODEL, version, state)
    course.kill()
    on_disk = fleet.install(course.device, MODEL)
    assert on_disk is not None
    assert on_disk.state is not State.COMMITTED, "it was over before the kill"

    course.restart()
    ended = fleet.ended(rollout)
    fleet.proven(MODEL, version, course.device)

    assert ended["state"] == "succeeded", ended
    course.feeder.pause()
    fleet.all_counted(course.device, MODEL, course.rows)
    course.feeder.resume()


def test_an_agent_killed_again_and_again_while_it_tells_its_windows_is_heard_once(
    fleet: Fleet, course: Course
) -> None:
    moments = random.Random(11)  # noqa: S311 - a course of events, not a secret
    for _ in range(3):
        course.answers_again()
        time.sleep(moments.uniform(0.2, 1.8))
        course.kill()
        course.restart()
    course.answers_again()
    course.feeder.pause()
    course.feeder.send(WINDOW_ROWS)  # so many close the window that they fall in

    fleet.all_stored(course.device, MODEL, course.rows)
    course.feeder.resume()
    assert fleet.audit_holds()


def test_an_agent_that_is_asked_to_end_under_load_counts_every_answer(
    fleet: Fleet, course: Course
) -> None:
    for _ in range(3):
        course.answers_again()
        course.device.daemon.stop()
        course.feeder.pause()
        assert fleet.counted(course.device, MODEL) == course.rows
        course.restart()
    course.answers_again()


def test_what_a_checkpoint_has_kept_no_kill_can_take(fleet: Fleet, course: Course) -> None:
    course.feeder.pause()
    fleet.all_counted(course.device, MODEL, course.rows)
    before = fleet.counted(course.device, MODEL)
    course.kill()

    assert course.kept == before
    course.restart()


@pytest.mark.parametrize("number", [1, 2], ids=["its key is made", "its token is used"])
def test_an_agent_killed_while_it_enrols_becomes_one_device(
    fleet: Fleet, course: Course, number: int
) -> None:
    device = fleet.stage.devices[number]
    token = fleet.stage.muster_json("token", "create")["token"]
    words = device.command("enrol", token, "--name", device.name)
    enrolling = Daemon("enrol", words, device.home.with_suffix(".enrol"), {})
    enrolling.start()
    soon(lambda: a_key(device) if number == 1 else used(fleet, device))
    enrolling.kill()

    done = refusal(words)
    assert not done or "[already-enrolled]" in done  # the kill came after all was done
    device.daemon.start()
    fleet.online(device)
    names = [one["id"] for one in fleet.stage.get("/devices")]
    assert len([one for one in names if one.startswith(device.name)]) == 1


def refusal(words: list[str]) -> str:
    """What the command says if it is refused; empty if it is not."""
    try:
        run_command(words, {})
    except ProcessFailed as error:
        return str(error)
    return ""


def a_key(device: Device) -> bool | None:
    return (device.home / "device.key.new").exists() or None


def used(fleet: Fleet, device: Device) -> bool | None:
    found = fleet.ask("SELECT id FROM tokens WHERE used_by = ?", device.name)
    return True if found else None
