"""``kill -9`` of the controller at moments of a federated run: what comes of it are the same bits.

The controller is a process, and so are its coordinator and what makes the version; devices are here,
and reach into its folder. ``tests/controller/federated/test_killed_controller.py`` has every moment.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from agent.clock import SystemClock
from agent.runtimes.onnx import OnnxRuntime
from controller.candidate.actions import here
from controller.desk import FederatedDesk
from controller.federated.intake.actions import Intake
from controller.federated.readiness import DeviceReadiness
from controller.federated.run import Run
from controller.federated.telling.order import order_command
from controller.home import Home
from controller.runtimes.candidates import MODULE
from controller.store.blob_folder import BlobFolder
from controller.store.reply_folder import ReplyFolder
from controller.store.sql import SqlStore
from protos.manifest import Role, read_manifest
from tests.contracts.stored import DEVICE
from tests.controller.federated.mortal_controller import FILE, RUN, Device, founded, lived, willing
from tests.controller.registry.building import classifier
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.fleet import Fleet, soon


@dataclass
class Course:
    """A controller's process, and devices that do what stands in its store."""

    fleet: Fleet
    store: SqlStore
    devices: list[Device] = field(default_factory=willing)

    def __post_init__(self) -> None:
        home = Home(self.fleet.stage.home)
        self.blobs = BlobFolder(home.blobs)
        self.desk = FederatedDesk(SystemClock())
        self.desk.intake = Intake(self.store, ReplyFolder.open(home.replies))

    def enrol(self, manifest_sha256: str) -> None:
        with self.store.begin() as tx:
            for one in self.devices:
                tx.devices.put(replace(DEVICE, id=one.name))
                said = DeviceReadiness(
                    device=one.name,
                    model="things",
                    version=1,
                    manifest_sha256=manifest_sha256,
                    eligible=True,
                )
                tx.tasks.replace_readiness(one.name, [said])

    def kill(self) -> None:
        """Kills the controller and starts it again."""
        self.fleet.stage.controller.kill()
        self.fleet.stage.start_controller()

    @property
    def run(self) -> Run:
        with self.store.read() as tx:
            found = tx.runs.get(RUN)
        assert found is not None
        return found

    def phases(self) -> int:
        with self.store.read() as tx:
            return len(tx.runs.phases(RUN))

    def something_happens(self) -> bool:
        """A device does the next thing, if it is told any."""
        now = time.time()
        with self.store.begin() as tx:  # a controller that begins takes all links for gone
            for one in self.devices:
                tx.devices.touch(one.name, now, connected=True)
            tasks = {one.name: tx.tasks.newest_open(one.name) for one in self.devices}
        for one in self.devices:
            one.told(order_command(self.run, tasks[one.name], int(now * 1000)))
            piece = one.piece(self.blobs)
            if piece is not None:
                one.received(asyncio.run(self.desk.reply(one.name, piece)))
                return True
        return False

    def until_something_happens(self) -> None:
        soon(lambda: self.something_happens() or None, 0.02)

    def until_closed(self, phases: int) -> None:
        """Devices do as they are told until so many phases are closed."""

        def closed() -> bool | None:
            self.something_happens()
            return self.phases() >= phases or None

        soon(closed, 0.02)

    def maker(self) -> psutil.Process:
        """The process that makes the version, once it is there."""

        def found() -> psutil.Process | None:
            controller = psutil.Process(self.fleet.stage.controller.pid)
            with suppress(psutil.NoSuchProcess):  # others end at any time
                return next((one for one in controller.children() if MODULE in one.cmdline()), None)
            return None

        return soon(found)


@pytest.fixture(scope="module")
def course(make_fleet: MakeFleet) -> Iterator[Course]:
    fleet = make_fleet(0)
    fleet.appoint("things")
    onnx = classifier().SerializeToString()
    fleet.publish("things", onnx, training={"trainable": "all"})
    with closing(Home(fleet.stage.home).open_store()) as store:
        made = Course(fleet, store)
        with store.read() as tx:
            version = tx.registry.version("things", 1)
        assert version is not None
        made.enrol(version.manifest_sha256)
        yield made


@pytest.fixture
def fleet(course: Course) -> Fleet:
    """So that a failing test shows the logs."""
    return course.fleet


def test_a_controller_killed_at_moments_of_a_run_comes_to_the_same_bits(
    course: Course, fleet: Fleet, tmp_path: Path
) -> None:
    whole = asyncio.run(lived(founded(tmp_path / "whole"), here(OnnxRuntime()))).end

    fleet.stage.api().post("/federated/runs", {"text": FILE})
    course.until_closed(1)
    course.until_something_happens()
    course.kill()  # of the second round a reply is half there
    course.until_closed(3)
    maker = course.maker()
    course.kill()
    assert not maker.is_running() or maker.status() == psutil.STATUS_ZOMBIE
    candidate = soon(lambda: course.run.candidate, 0.05)

    with course.store.read() as tx:
        version = tx.registry.version("things", candidate)
        waits = tx.registry.pending("things", candidate)
        counts = tx.tasks.counts(RUN)
        told = [(one.round, one.admitted, one.declined) for one in tx.runs.phases(RUN)]
    assert version is not None
    assert waits is not None
    files = read_manifest(version.manifest).files
    assert course.run.arrays_sha256 == whole["parameters"]
    for role in (Role.MODEL, Role.MODEL_STEP):
        assert files[role].sha256 == whole["files"][role]
    assert counts == whole["tasks"]
    assert told == [(one.round, one.admitted, one.declined) for one in whole["phases"]]
    assert {one.name: one.trained for one in course.devices} == whole["trained"]
    assert fleet.audit_holds()
