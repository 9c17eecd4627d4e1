"""A federated run of a controller's process, whose devices are here, and reach into its folder."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from agent.clock import SystemClock
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
from tests.controller.federated.mortal_controller import FILE, RUN, Device, willing
from tests.end_to_end.fleet import Fleet, soon


@dataclass
class Running:
    """Devices that do what stands in the store of a controller's process."""

    fleet: Fleet
    store: SqlStore
    devices: list[Device] = field(default_factory=willing)

    def __post_init__(self) -> None:
        home = Home(self.fleet.stage.home)
        self.blobs = BlobFolder(home.blobs)
        self.desk = FederatedDesk(SystemClock())
        self.desk.intake = Intake(self.store, ReplyFolder.open(home.replies))

    def begin(self) -> None:
        """Makes the devices, which run the first version, and starts the run."""
        with self.store.begin() as tx:
            version = tx.registry.version("things", 1)
            assert version is not None
            for one in self.devices:
                tx.devices.put(replace(DEVICE, id=one.name))
                said = DeviceReadiness(
                    device=one.name,
                    model="things",
                    version=1,
                    manifest_sha256=version.manifest_sha256,
                    eligible=True,
                )
                tx.tasks.replace_readiness(one.name, [said])
        self.fleet.stage.api().post("/federated/runs", {"text": FILE})

    @property
    def run(self) -> Run:
        """As it stands."""
        with self.store.read() as tx:
            found = tx.runs.get(RUN)
        assert found is not None
        return found

    def phases(self) -> int:
        """How many are closed."""
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
        """A device has done the next thing."""
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

    def end(self) -> Mapping[str, Any]:
        """What has come of the run, as ``mortal_controller.told`` has it."""
        candidate = soon(lambda: self.run.candidate, 0.05)
        parameters = self.run.arrays_sha256
        with self.store.read() as tx:
            version = tx.registry.version("things", candidate)
            assert version is not None
            files = read_manifest(version.manifest).files
            return {
                "parameters": parameters,
                "files": {role: files[role].sha256 for role in (Role.MODEL, Role.MODEL_STEP)},
                "waits": tx.registry.pending("things", candidate) is not None,
                "tasks": tx.tasks.counts(RUN),
                "trained": {one.name: one.trained for one in self.devices},
            }
