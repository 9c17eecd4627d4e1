"""A device of the study: it does with an order what a device of the product does, without a disk."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from agent.clock import SystemClock
from agent.errors import Refused
from agent.federated.eligibility import Condition, Terms
from agent.federated.examples import examples_of
from agent.federated.layout import packed
from agent.federated.ledger.actions import Ledger
from agent.federated.order import Order, begun, read_order
from agent.federated.retention import Retention
from agent.federated.task.actions import Means, kept
from agent.federated.task.knowledge import Knowledge
from agent.federated.task.loop import TaskWork, Tries
from agent.federated.trainer import Bounds, Trainer
from agent.federated.update import unshielded
from agent.install.gates import Circumstances
from agent.transport.backoff import Backoff
from controller.federated.run import Run
from controller.federated.task import Task
from controller.federated.telling.order import order_command
from protos.v1 import command_pb2, federated_pb2
from simulations.memory_blobs import MemoryBlobs
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_examples import MemoryExamples
from simulations.memory_intake import MemoryIntake
from simulations.memory_trainer import MemoryTrainer
from simulations.study.digits import Images, Labels
from simulations.study.perceptron import Version

ALL_TO_TRAIN: Final = Retention(hold_out=0.0)
"""So that as much is learnt from as in the figures that these are compared with."""

NOON: Final = datetime(2030, 1, 1, 12, tzinfo=UTC)

T = TypeVar("T")


async def at_once(work: Callable[[], T]) -> T:
    """In place of a thread."""
    return work()


@dataclass(frozen=True, slots=True)
class MemoryUplink:
    """``agent.federated.task.actions.Uplink`` without a link.

    Attributes:
        arrays: the run's, by digest.
        into: where the device keeps them.
    """

    arrays: Callable[[str], bytes]
    into: MemoryBlobs
    intake: MemoryIntake

    async def fetch(self, sha256: str, length: int) -> None:
        """Brings the blob."""
        data = self.arrays(sha256)
        if len(data) != length or kept(self.into, data) != sha256:
            raise Refused("not-found", f"no blob {sha256}", "This is a defect: report it.")

    async def reply(self, piece: federated_pb2.ReplyPiece) -> federated_pb2.ReplyReceipt:
        """The receipt."""
        return self.intake.take(piece)


Train = Callable[[Trainer], Trainer]
"""What stands between a device and its trainer: nothing, or somebody who means no good."""


@dataclass(eq=False)
class StudyDevice:
    """One device, with the examples that it has.

    Args:
        arrays: where a run's arrays are, by digest.
        loop: on which all devices of the process carry out their tasks, one after the other.
    """

    name: str
    version: Version
    images: Images
    labels: Labels
    arrays: Callable[[str], bytes]
    loop: asyncio.Runner
    train: Train = lambda trainer: trainer
    _intake: MemoryIntake = field(init=False, default_factory=MemoryIntake)
    _ledger: Ledger = field(init=False)
    _work: TaskWork = field(init=False)

    def __post_init__(self) -> None:
        """Wired as ``agent.training`` does it."""
        clock, blobs, version = SystemClock(), MemoryBlobs(), self.version
        examples = MemoryExamples(ALL_TO_TRAIN)
        rows = packed(version.layout, {"image": self.images}, self.labels)
        kept_rows = examples_of(version.layout, rows, ALL_TO_TRAIN, 1.0, self.name)
        examples.add(version.manifest.model, version.layout, kept_rows)
        files = {version.step_sha256: version.step_file}
        trainer = MemoryTrainer(files.__getitem__, examples, {version.step_sha256: version.step})
        champions = {version.manifest.model: version.manifest}
        knowledge = Knowledge(lambda: champions, files.__getitem__, examples)
        means = Means(
            blobs=blobs,
            uplink=MemoryUplink(self.arrays, blobs, self._intake),
            trainer=self.train(trainer),
            subjects=knowledge.subjects,
            condition=lambda _: Condition(circumstances=Circumstances(NOON)),
            terms=Terms(),
            bounds=Bounds(),
            shield=unshielded,
            offload=at_once,
        )
        rng = random.Random(0)  # noqa: S311 - pauses that never come
        self._ledger = Ledger(MemoryDeviceStore(), blobs, clock, at_once)
        self._work = TaskWork(
            self._ledger, means, Tries(clock, rng, Backoff()), clock, rng, _unheard, _settled
        )

    @property
    def examples(self) -> int:
        """How many it has to learn from."""
        return len(self.labels)

    def answer(self, run: Run, task: Task, now_ms: int) -> bytes:
        """The reply, as it comes to the controller."""
        command = command_pb2.Command.FromString(order_command(run, task, now_ms))
        order = read_order(command.federated)
        if order is None:
            raise RuntimeError(f"{self.name}: told of a task that is over")
        return self.loop.run(self._answered(order))

    async def _answered(self, order: Order) -> bytes:
        await self._ledger.begin(begun(order, self._ledger.now()))
        self._work.deadline = self._work.clock.monotonic() + order.seconds
        await self._work.reply_to(order)
        await self._work.send()
        return self._intake.replies.pop(order.id)


def _unheard(_: object) -> None:
    """Nobody reads logs here."""


def _settled() -> None:
    """The next order comes when it comes."""
