"""Both halves of the product in one process: devices that learn, and a run of Flower's over them."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.federated.update import write_parameters
from controller.desk import DeviceDesk
from controller.federated.coordinator.loop import coordinate
from controller.federated.exchange import PhaseRecord
from controller.federated.intake.actions import Intake
from controller.federated.run import Run, RunState
from controller.federated.task import Phase
from controller.federated.telling.loop import OrderLoop
from controller.fleet.device import Device as Enrolled
from controller.store.blob_folder import BlobFolder
from controller.store.exchange import Place, StoreExchange
from controller.store.reply_folder import ReplyFolder
from controller.store.sql import SqlStore
from simulations.memory_link import MemoryNetwork
from tests.agent.federated.learners import Learner, classifier, clouds
from tests.agent.federated.product import Device, eventually
from tests.contracts.federated_values import RUN

DEVICES = ("d1", "d2")
FILE = """
[run]
model = "learner/1"
rounds = 1
[round]
deadline = 60.0
over_selection = 1.0
[training]
learning_rate = 0.1
batch_size = 16
epochs = 2
"""


class NoRollouts:
    """Nobody waits for reports."""

    def wake(self) -> None:
        """Nothing."""

    async def connected(self, device: str) -> None:
        del device


@dataclass
class Centre:
    """A controller but for its web and its rollouts: store, desk, telling, and one coordinator."""

    folder: Path

    def __post_init__(self) -> None:
        clock = SystemClock()
        self.store = SqlStore.open(f"sqlite:///{self.folder}/muster.db")
        self.blobs = BlobFolder.open(self.folder / "blobs")
        replies = ReplyFolder.open(self.folder / "replies")
        self.news = threading.Event()
        desk = DeviceDesk(self.store, self.blobs, clock, None)  # type: ignore[arg-type]
        self.network = MemoryNetwork(desk.dispatch())
        self.orders = OrderLoop(self.store, self.network, clock)
        desk.rollouts = NoRollouts()
        desk.federated.intake = Intake(self.store, replies, lambda _: self.news.set())
        desk.federated.orders = self.orders
        self.place = Place(self.store, self.blobs, replies, clock, self.news, self.orders.wake)

    def enrol(self, manifest_sha256: str) -> None:
        run = replace(
            RUN, id="learner-r1", model="learner", version=1, rounds=1,
            manifest_sha256=manifest_sha256, file=FILE,
        )  # fmt: skip
        with self.store.begin() as tx:
            for name in DEVICES:
                tx.devices.put(Enrolled(name, 1.0, b"pem", "1", 2e9))
            tx.runs.put(run)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        telling = asyncio.create_task(self.orders.run())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait([telling])
            await self.network.settle()
            self.store.close()

    def run(self) -> Run:
        with self.store.read() as tx:
            found = tx.runs.get("learner-r1")
        assert found is not None
        return found

    def phases(self) -> list[PhaseRecord]:
        with self.store.read() as tx:
            return list(tx.runs.phases("learner-r1"))

    def ready(self) -> int:
        with self.store.read() as tx:
            return sum(one.eligible for one in tx.tasks.readiness("learner"))


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


async def test_a_run_goes_over_devices_that_learn(tmp_path: Path, learner: Learner) -> None:
    centre = Centre(tmp_path)
    devices = [Device(tmp_path / name, learner, centre.network, name=name) for name in DEVICES]
    centre.enrol(devices[0].manifest.digest)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(centre.running())
        for number, device in enumerate(devices):
            part = await stack.enter_async_context(device.agent())
            x, truth = clouds(60, seed=number)
            part.collector.add("learner", None, {"x": x}, truth.tolist())
            part.wake()
        await eventually(lambda: centre.ready() == len(DEVICES))
        exchange = StoreExchange(centre.place, "learner-r1")
        initial = write_parameters(learner.parameters)
        await asyncio.to_thread(coordinate, exchange, lambda: initial)
        run, phases = centre.run(), centre.phases()

    assert (run.state, run.error, run.round) == (RunState.FINISHED, "", 1)
    assert [(one.phase, one.selected, one.admitted) for one in phases] == [
        (Phase.EVALUATE, 2, 2),
        (Phase.TRAIN, 2, 2),
        (Phase.EVALUATE, 2, 2),
    ]
    assert phases[-1].metrics["loss"] < phases[0].metrics["loss"]
