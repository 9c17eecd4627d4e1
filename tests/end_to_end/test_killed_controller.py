"""``kill -9`` of the controller at many moments: started again, all comes to the same end."""

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from agent.install.machine import State
from agent.runtimes.onnx import OnnxRuntime
from controller.candidate.actions import here
from controller.cli.output import CommandFailed
from controller.home import Home
from protos.documents import sha256
from simulations.demo.processes import ProcessFailed, run_command
from simulations.demo.stage import Device
from tests.controller.federated.mortal_controller import founded, lived
from tests.controller.registry.building import classifier
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.feeder import Feeder
from tests.end_to_end.fleet import DEADLINE, WINDOW_ROWS, Fleet, model_file, soon
from tests.end_to_end.running import Running

MODEL = "ripe"
SPARE = "spare"


@dataclass
class Course:
    """A device under load, and two versions that it is sent through."""

    fleet: Fleet
    device: Device
    feeder: Feeder
    versions: list[int]
    at: int = 0

    def next_version(self) -> int:
        """A version that does not run: its files must be fetched."""
        self.at = (self.at + 1) % len(self.versions)
        return self.versions[self.at]

    def kill(self) -> None:
        """Kills the controller and starts it again."""
        self.fleet.stage.controller.kill()
        self.fleet.stage.start_controller()


@pytest.fixture(scope="module")
def course(make_fleet: MakeFleet) -> Course:
    fleet = make_fleet(2)
    device = fleet.stage.devices[0]
    fleet.join(device)
    for model in (MODEL, SPARE):
        fleet.appoint(model)
    versions = [fleet.publish(MODEL, model_file(scale)) for scale in (1.0, 1.25)]
    fleet.roll_out(MODEL, versions[0], device)
    return Course(fleet, device, fleet.feed(device, MODEL), versions)


@pytest.fixture
def fleet(course: Course) -> Fleet:
    """So that a failing test shows the logs."""
    return course.fleet


def no_request_failed_and_every_row_is_counted(course: Course) -> None:
    course.feeder.pause()
    assert (course.feeder.unanswered, course.feeder.first_failure) == (0, "")
    course.fleet.all_counted(course.device, MODEL, course.feeder.answered)
    course.feeder.resume()
    assert course.fleet.audit_holds()


def another_window(course: Course) -> None:
    """Returns right after the controller has stored one more."""
    stored = len(course.fleet.stored(course.device, MODEL))
    soon(lambda: len(course.fleet.stored(course.device, MODEL)) > stored or None)


Moment = State | str


@pytest.mark.parametrize(
    "moments",
    [("signed", State.SELF_TEST), (State.VERIFYING, State.FETCHING, State.PROBATION)],
    ids=" and ".join,
)
def test_a_controller_killed_while_a_device_installs_sees_it_proven(
    fleet: Fleet, course: Course, moments: tuple[Moment, ...]
) -> None:
    version = course.next_version()
    (told,) = fleet.ask("SELECT count(*) FROM directives")
    rollout = fleet.start(MODEL, version, course.device)
    for moment in moments:
        if isinstance(moment, State):
            fleet.reaches(course.device, MODEL, version, moment)
        else:
            soon(lambda: fleet.ask("SELECT count(*) FROM directives") != [told] or None)
        course.kill()

    assert fleet.ended(rollout)["state"] == "succeeded"
    slot = fleet.proven(MODEL, version, course.device)
    assert slot["generation"] == fleet.stage.get(f"/devices/{course.device.name}")["generation"]
    no_request_failed_and_every_row_is_counted(course)


def test_a_controller_killed_again_and_again_while_windows_come_in_stores_each_once(
    fleet: Fleet, course: Course
) -> None:
    moments = random.Random(5)  # noqa: S311 - a course of events, not a secret
    for _ in range(2):
        another_window(course)
        time.sleep(moments.uniform(0.0, 1.0))
        course.kill()
    course.feeder.pause()
    course.feeder.send(WINDOW_ROWS)  # so many close the window that they fall in

    fleet.all_stored(course.device, MODEL, course.feeder.answered)
    course.feeder.resume()
    no_request_failed_and_every_row_is_counted(course)


def test_a_controller_that_was_down_loses_nothing(fleet: Fleet, course: Course) -> None:
    fleet.stage.controller.kill()
    answered = course.feeder.answered
    known = set(fleet.stored(course.device, MODEL))
    fleet.wait(
        "windows that wait",
        lambda: len(set(fleet.accounts(course.device, MODEL)) - known) >= 2 or None,
    )
    assert course.feeder.answered > answered
    # Nor does the agent need the controller to come back to life.
    course.feeder.pause()
    course.device.daemon.stop()
    course.device.daemon.start()
    fleet.wait("an answer", lambda: fleet.ready(course.device, MODEL))
    course.feeder.resume()
    again = course.feeder.answered
    fleet.wait("answers", lambda: course.feeder.answered > again or None)
    assert set(fleet.stored(course.device, MODEL)) == known

    fleet.stage.start_controller()
    course.feeder.pause()
    course.feeder.send(WINDOW_ROWS)
    fleet.all_stored(course.device, MODEL, course.feeder.answered)
    course.feeder.resume()
    no_request_failed_and_every_row_is_counted(course)


def test_a_token_and_an_enrolment_outlive_the_controllers_kill(
    fleet: Fleet, course: Course
) -> None:
    device = fleet.stage.devices[1]
    token = fleet.stage.muster_json("token", "create")["token"]
    course.kill()
    words = device.command("enrol", token, "--name", device.name)
    with ThreadPoolExecutor(1) as pool:
        enrolling = pool.submit(run_command, words, {})
        query = "SELECT count(*) FROM tokens WHERE used_by = ?"
        soon(lambda: fleet.ask(query, device.name) == [(1,)] or None)
        course.kill()
        enrolled = enrolling.exception(DEADLINE) is None

    if not enrolled:  # the answer was lost: asking again gives the same device
        run_command(words, {})
    device.daemon.start()
    fleet.online(device)
    names = [one["id"] for one in fleet.stage.get("/devices")]
    assert len([one for one in names if one.startswith(device.name)]) == 1
    with pytest.raises(ProcessFailed, match="token-used"):
        run_command([*words[:2], str(device.home.with_name("twin")), *words[3:]], {})


@pytest.mark.parametrize("scale", [2.0, 2.25], ids=["it is read", "its files are stored"])
def test_a_controller_killed_while_it_registers_has_the_whole_version_or_none(
    fleet: Fleet, course: Course, scale: float
) -> None:
    onnx = model_file(scale)
    blob = fleet.stage.home / "blobs"
    digest = sha256(onnx)
    with ThreadPoolExecutor(1) as pool:
        registering = pool.submit(fleet.register, SPARE, onnx)
        if scale == 2.0:
            time.sleep(0.3)
        else:
            soon(lambda: next(blob.rglob(digest), None))
        course.kill()
        lost = registering.exception(DEADLINE)

    assert isinstance(lost, CommandFailed)
    for number in versions_of(fleet, SPARE):
        assert whole(fleet, SPARE, number)
    if digest not in [model_digest(fleet, SPARE, one) for one in versions_of(fleet, SPARE)]:
        assert whole(fleet, SPARE, fleet.register(SPARE, onnx))
    with pytest.raises(CommandFailed, match="already"):
        fleet.register(SPARE, onnx)
    manifests = [model_digest(fleet, SPARE, number) for number in versions_of(fleet, SPARE)]
    assert manifests.count(digest) == 1


def test_a_controller_killed_at_approvals_publishes_all_of_each_or_nothing(
    fleet: Fleet, course: Course
) -> None:
    for scale in (3.0, 3.25):
        version = fleet.register(SPARE, model_file(scale))
        with ThreadPoolExecutor(1) as pool:
            approving = pool.submit(fleet.approve, SPARE, version)
            if scale == 3.0:  # while the approver looks at what there is to sign
                time.sleep(0.05)
            else:  # the answer is on its way
                soon(partial(published, fleet, version))
            course.kill()
            approving.exception(DEADLINE)
        if published(fleet, version) is None:
            fleet.approve(SPARE, version)

        assert published(fleet, version)
    fleet.roll_out(SPARE, version, course.device)  # which verifies all of the metadata
    no_request_failed_and_every_row_is_counted(course)


def test_a_controller_killed_in_a_federated_run_comes_to_the_same_bits(
    fleet: Fleet, course: Course, tmp_path: Path
) -> None:
    """``tests/controller/federated/test_killed_controller.py`` has all of its moments."""
    whole = asyncio.run(lived(founded(tmp_path / "whole"), here(OnnxRuntime()))).end
    fleet.appoint("things")
    onnx = classifier().SerializeToString()
    fleet.publish("things", onnx, training={"trainable": "all"})
    with closing(Home(fleet.stage.home).open_store()) as store:
        running = Running(fleet, store)
        running.begin()
        running.until_closed(1)
        running.until_something_happens()
        course.kill()  # of the second round a reply is half there
        running.until_closed(3)
        maker = running.maker()
        course.kill()
        assert not maker.is_running() or maker.status() == psutil.STATUS_ZOMBIE
        end = running.end()

    files = {role: whole["files"][role] for role in end["files"]}
    assert end == {name: whole[name] for name in end} | {"files": files}
    assert end["waits"]
    assert fleet.audit_holds()


def published(fleet: Fleet, version: int) -> bool | None:
    query = "SELECT state FROM versions WHERE model = ? AND version = ?"
    return fleet.ask(query, SPARE, version) == [("published",)] or None


def versions_of(fleet: Fleet, model: str) -> list[int]:
    found = fleet.stage.get("/models")
    return [one["version"] for of in found if of["name"] == model for one in of["versions"]]


def model_digest(fleet: Fleet, model: str, version: int) -> str:
    found = fleet.stage.get(f"/models/{model}/versions/{version}")
    return str(found["manifest"]["files"]["model"]["sha256"])


def whole(fleet: Fleet, model: str, version: int) -> bool:
    """Whether every file that the manifest names is there, as it names it."""
    files = fleet.stage.get(f"/models/{model}/versions/{version}")["manifest"]["files"]
    blobs: Path = fleet.stage.home / "blobs"
    return all(
        sha256(next(blobs.rglob(one["sha256"])).read_bytes()) == one["sha256"]
        for one in files.values()
    )
