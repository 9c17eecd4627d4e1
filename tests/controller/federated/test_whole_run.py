"""Whole runs over real links, with real coordinators: the same bits over every transport, and through
the end of the controller in the middle of a round."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import AgentError
from agent.transport.link import Dialer, Link
from controller.federated.run import RunState
from controller.federated.supervision.actions import nothing
from controller.federated.supervision.loop import RunLoop
from controller.federated.telling.loop import OrderLoop
from controller.runtimes.coordinators import CoordinatorProcesses
from controller.store.blob_folder import BlobFolder
from controller.store.store import Store
from controller.transport.dispatch import Dispatch, stream
from protos.flower import message_pb2
from protos.methods import READINESS, REPLY
from protos.v1 import command_pb2, federated_pb2
from tests.contracts.centre import Centre
from tests.contracts.federated_place import CLOCK, now_ms
from tests.contracts.networks import NETWORKS, Network
from tests.controller.federated.coordinator.test_process import NAMES, Folder, folder

DEADLINE = 120.0
PIECE = 300
"""So small that every reply takes a few."""


@dataclass
class Desk(Centre):
    """What a controller answers devices in runs."""

    found: Folder | None = None
    orders: OrderLoop | None = None
    replied: Callable[[str], None] = lambda _: None
    answers: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def endpoint(self) -> Dispatch:
        assert self.found is not None
        intake, blobs = self.found.intake, BlobFolder(self.found.home.blobs)

        async def reply(device: str, request: bytes) -> bytes:
            answer = await asyncio.to_thread(intake.reply, device, request, now_ms)
            if federated_pb2.ReplyReceipt.FromString(answer).complete:
                self.answers += 1
                self.replied("digits-r1")
                self.news.set()
            return answer

        async def arrived(device: str) -> None:
            if self.orders is not None:
                await self.orders.connected(device)

        return Dispatch(
            actions={REPLY.name: reply},
            listeners={READINESS: self._facts},
            admission=self._admit,
            arrival=arrived,
            departure=lambda device: self._note("down", device),
            blobs=lambda _, sha256, offset, __: stream(blobs, sha256, offset),
        )


@dataclass
class Trainer:
    """A device: does what it is told, as far as ``gate`` lets it."""

    name: str
    found: Folder
    gate: asyncio.Event

    async def serve(self, dialer: Dialer) -> None:
        link = await dialer.dial()
        try:
            async for command in link.commands():
                order = command_pb2.Command.FromString(command).federated
                if order.HasField("task"):
                    await self.gate.wait()
                    await self.answer(link, order.task)
        finally:
            await link.close()

    async def answer(self, link: Link, told: federated_pb2.FederatedTask) -> None:
        message = message_pb2.Message.FromString(told.message)
        for one in told.arrays:
            data = b"".join([piece async for piece in link.fetch(one.sha256, 0)])
            assert (len(data), hashlib.sha256(data).hexdigest()) == (one.length, one.sha256)
            record = message_pb2.ArrayRecord.FromString(data)
            message.content.items.add(key=one.key, array_record=record)
        with self.found.store.read() as tx:
            task = tx.tasks.get(told.task_id)
        assert task is not None
        await self.send(link, task.id, self.found.learners[self.name](message, task))

    async def send(self, link: Link, task: str, reply: bytes) -> None:
        digest, have = hashlib.sha256(reply).hexdigest(), 0
        while True:
            piece = federated_pb2.ReplyPiece(
                task_id=task,
                sha256=digest,
                length=len(reply),
                offset=have,
                data=reply[have : have + PIECE],
            )
            answer = await link.call(REPLY.name, piece.SerializeToString())
            receipt = federated_pb2.ReplyReceipt.FromString(answer)
            if receipt.complete or receipt.HasField("refused"):
                return
            have = receipt.have


class Place:
    """A controller's loops over a folder, and its devices on a network."""

    def __init__(self, found: Folder, desk: Desk, network: Network) -> None:
        self.found, self.desk = found, desk
        self.orders = OrderLoop(found.store, network.courier, CLOCK)
        desk.orders = self.orders
        self.gates = {name: asyncio.Event() for name in NAMES}

    def controller(self) -> RunLoop:
        """As one that was just started."""
        processes = CoordinatorProcesses(self.found.home.path, self.found.home.federated)
        store: Store = self.found.store
        loop = RunLoop(store, processes, CLOCK, self.orders.wake, nothing, interval=0.2)
        self.desk.replied = loop.replied
        return loop

    def open_gates(self) -> None:
        """Every device answers from now on."""
        for gate in self.gates.values():
            gate.set()

    async def until_finished(self) -> str:
        while self.found.run.state is RunState.RUNNING:
            self.desk.news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.desk.news.wait(), 0.2)
        log = self.found.home.federated / "digits-r1.log"
        assert self.found.run.state is RunState.FINISHED, log.read_text()
        return self.found.run.arrays_sha256


@contextmanager
def made_folder(path: Path) -> Iterator[Folder]:
    path.mkdir()
    with folder(path / "home") as found:
        yield found


@asynccontextmanager
async def place(path: Path, transport: str) -> AsyncIterator[Place]:
    with made_folder(path) as found:
        desk = Desk(found=found)
        async with NETWORKS[transport](desk, path) as network:
            made = Place(found, desk, network)
            dialers = {name: await network.dialer(name) for name in NAMES}
            devices = [
                asyncio.create_task(Trainer(name, found, made.gates[name]).serve(dialers[name]))
                for name in NAMES
            ]
            telling = asyncio.create_task(made.orders.run())
            try:
                yield made
            finally:
                for task in (telling, *devices):
                    task.cancel()
                done = await asyncio.gather(telling, *devices, return_exceptions=True)
                assert [one for one in done if not isinstance(one, _ENDS)] == []


_ENDS = (asyncio.CancelledError, AgentError)


async def test_runs_come_to_the_same_bits_over_both_transports_and_through_a_controllers_end(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(DEADLINE):
        async with place(tmp_path / "whole", "mqtt") as made:
            made.open_gates()
            running = asyncio.create_task(made.controller().run())
            whole = await made.until_finished()
            running.cancel()
            await asyncio.wait([running])

        async with place(tmp_path / "cut", "grpc") as made:
            made.gates["cam-2"].set()
            first = asyncio.create_task(made.controller().run())
            await made.desk.news.wait()  # one of three has replied
            first.cancel()
            await asyncio.wait([first])
            assert made.desk.answers == 1
            made.open_gates()
            second = asyncio.create_task(made.controller().run())
            assert await made.until_finished() == whole
            second.cancel()
            await asyncio.wait([second])
