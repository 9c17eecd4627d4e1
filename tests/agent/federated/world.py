"""One device in federated runs: the real loop over a controller in memory, a trainer that pretends."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np

from agent.errors import AgentError, Refused, TransportError
from agent.federated.eligibility import Condition, Ground, Terms
from agent.federated.evaluation import Evaluation
from agent.federated.loop import TaskLoop
from agent.federated.parameters import Float32s, Parameters
from agent.federated.record import Journal
from agent.federated.step_file import StepFile
from agent.federated.task.actions import Means
from agent.federated.task.loop import Happened
from agent.federated.task.subject import Subject
from agent.federated.trainer import Bounds, EvaluateJob, TrainJob, TrainResult
from agent.federated.update import unshielded, write_parameters
from agent.install.gates import Circumstances
from agent.transport.backoff import Backoff
from protos.documents import sha256
from protos.flower import message_pb2
from protos.manifest import Budgets, File, Manifest, Needs, Role
from protos.train_step import Loss, Optimizer, Parameter, TrainStepSpec
from protos.v1 import federated_pb2
from simulations.memory_blobs import MemoryBlobs
from simulations.memory_device_store import Contents, MemoryDeviceStore
from simulations.memory_intake import MemoryIntake
from simulations.power import Power, PoweredBlobs, PoweredStore

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
DEADLINE = 20.0
SHAPES = {"w": (40, 30), "b": (7,)}
T = TypeVar("T")


def manifest(version: int = 3) -> Manifest:
    files = {role: File(sha256=sha256(role.encode()), length=1) for role in Role}
    return Manifest(
        model="digits", version=version, release_counter=version, inputs=(), outputs=(),
        files=files, needs=Needs(), budgets=Budgets(latency_p99_seconds=1.0, memory_bytes=1),
    )  # fmt: skip


SPEC = TrainStepSpec(
    model_sha256="a" * 64,
    loss=Loss.MSE,
    optimizer=Optimizer.SGD,
    parameters=tuple(Parameter(name, shape) for name, shape in SHAPES.items()),
    inputs=("x",),
    target_shape=(-1, 1),
    sample_weight=False,
    proximal=False,
)
SUBJECT = Subject(
    manifest=manifest(),
    step=StepFile(SPEC, classes=0),
    ground=Ground(trainable=True, held=40, held_out=10),
)


def parameters(seed: int = 0) -> Parameters:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


class HandClock:
    """Goes on when it is told to; who sleeps is woken then."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._moved = asyncio.Event()
        self.sleepers: list[float] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        self.sleepers.append(until)
        try:
            while self.seconds < until:
                await self._moved.wait()
        finally:
            self.sleepers.remove(until)

    def go(self, seconds: float) -> None:
        self.seconds += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32s:
    """What a training moves a parameter by."""
    return np.asarray(rng.standard_normal(shape) / 100, np.float32)


@dataclass
class PretendTrainer:
    """Moves every parameter by what the plan's seed draws; waits at the gate, if that is shut."""

    fails: AgentError | Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: list[TrainJob | EvaluateJob] = field(default_factory=list)
    ended: int = 0
    power: Power = field(default_factory=Power)

    def __post_init__(self) -> None:
        self.gate.set()

    async def train(self, job: TrainJob) -> TrainResult:
        await self._wait(job)
        rng = np.random.default_rng(job.plan.seed)
        after = {
            name: np.add(array, drawn(rng, array.shape), dtype=np.float32)
            for name, array in job.parameters.items()
        }
        return TrainResult(
            parameters=after, steps=10, examples=40, first_loss=2.0, last_loss=0.5,
            before=Evaluation(examples=10, loss_sum=20.0), after=Evaluation(examples=10, loss_sum=5.0),
            seconds=1.0,
        )  # fmt: skip

    async def evaluate(self, job: EvaluateJob) -> Evaluation:
        await self._wait(job)
        return Evaluation(
            examples=10, loss_sum=4.0, judged=10, correct=7, confusion=(3, 2, 1, 4),
            confidences=(0,) * 9 + (10,), confident_correct=(0,) * 9 + (7,),
        )  # fmt: skip

    async def _wait(self, job: TrainJob | EvaluateJob) -> None:
        self.power.step("training")
        self.jobs.append(job)
        self.begun.set()
        try:
            await self.gate.wait()
        finally:
            self.ended += 1
        if self.fails is not None:
            raise self.fails


@dataclass
class PretendUplink:
    """The way to the controller, which may be cut."""

    intake: MemoryIntake
    blobs: MemoryBlobs
    power: Power
    up: bool = True
    patience_ms: int = 0
    put_off: int = 0
    crowded: int = 0
    calls: int = 0
    tried: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self, sha256: str, length: int) -> None:
        await self._call("fetch")
        if self.crowded:
            self.crowded -= 1
            raise Refused("too-many-calls", "32 calls are under way", "", 1000)
        data = self.intake.blobs[sha256]
        writer = self.blobs.writer(sha256, length)
        with contextlib.closing(writer):
            writer.write(data[writer.offset :])
            writer.finish()

    async def reply(self, piece: federated_pb2.ReplyPiece) -> federated_pb2.ReplyReceipt:
        await self._call("before a piece")
        if self.patience_ms:
            self.put_off += 1
            raise Refused("too-often", "not now", "", self.patience_ms)
        receipt = self.intake.take(piece)
        self.power.step("after a piece")
        return receipt

    async def _call(self, what: str) -> None:
        await asyncio.sleep(0)
        self.calls += 1
        self.tried.set()
        self.power.step(what)
        if not self.up:
            raise TransportError("no link")


async def at_once(work: Callable[[], T]) -> T:
    """In place of a thread: nothing of it is left to chance."""
    await asyncio.sleep(0)
    return work()


@dataclass
class Device:
    """Its disk outlives the agent: ``agent`` starts it anew."""

    intake: MemoryIntake = field(default_factory=MemoryIntake)
    disk: Contents = field(default_factory=Contents)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    clock: HandClock = field(default_factory=HandClock)
    trainer: PretendTrainer = field(default_factory=PretendTrainer)
    happened: list[Happened] = field(default_factory=list)
    terms: Terms = Terms()  # noqa: RUF009 - it is frozen
    condition: Condition = Condition(circumstances=Circumstances(START))  # noqa: RUF009
    subject: Subject | None = SUBJECT
    loop: TaskLoop = field(init=False)
    uplink: PretendUplink = field(init=False)

    @contextlib.asynccontextmanager
    async def agent(self, power: Power | None = None) -> AsyncIterator[TaskLoop]:
        power = power or Power()
        self.blobs = PoweredBlobs(power, self.blobs)
        self.uplink = PretendUplink(self.intake, self.blobs, power)
        self.trainer.power = power
        self.loop = TaskLoop(
            PoweredStore(MemoryDeviceStore(contents=self.disk), power),
            Means(
                blobs=self.blobs,
                uplink=self.uplink,
                trainer=self.trainer,
                subjects=lambda: {"digits": self.subject} if self.subject else {},
                condition=lambda _: self.condition,
                terms=self.terms,
                bounds=Bounds(),
                shield=unshielded,
                offload=at_once,
            ),
            self.clock,
            random.Random(1),  # noqa: S311 - chance that a test can repeat
            self.happened.append,
            backoff=Backoff(1.0, 60.0),
        )
        running = asyncio.create_task(self.loop.run())
        try:
            yield self.loop
        finally:
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled() and not power.gone:
                running.result()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Looks again whenever the loop goes to rest."""
        async with asyncio.timeout(DEADLINE):
            while not happened():  # noqa: ASYNC110 - everything is in this event loop
                await asyncio.sleep(0)

    @property
    def journal(self) -> Journal:
        """As it is on the disk."""
        return self.disk.journal

    async def in_time(self, happened: Callable[[], bool]) -> None:
        """As ``until``, while the clock goes on."""
        async with asyncio.timeout(DEADLINE):
            while not happened():
                self.clock.go(1.0)
                await asyncio.sleep(0)

    @property
    def state(self) -> str:
        return self.journal.task.state if self.journal.task else ""


@dataclass
class Orders:
    """What the controller orders of ``digits/3``."""

    intake: MemoryIntake
    key: str = "arrays"

    def task(
        self,
        id: str = "t1",  # noqa: A002 - as it is called
        *,
        phase: str = "train",
        parameters: Parameters | None = None,
        run: str = "digits-r1",
        seconds: float = 600.0,
        int8: bool = True,
        seed: int = 1,
        reply_bytes: int = 0,
        **config: Any,
    ) -> federated_pb2.FederatedOrder:
        record = write_parameters(parameters or _PARAMETERS)
        sha = self.intake.put(record)
        encoding = (
            federated_pb2.UPDATE_ENCODING_INT8_STEP
            if int8
            else federated_pb2.UPDATE_ENCODING_FLOAT32
        )
        return federated_pb2.FederatedOrder(
            task=federated_pb2.FederatedTask(
                task_id=id,
                run=run,
                round=1,
                model="digits",
                version=3,
                manifest_sha256=manifest().digest,
                message=message(id, phase, seed=seed, **config).SerializeToString(),
                arrays=[federated_pb2.ArrayReference(key=self.key, sha256=sha, length=len(record))],
                encoding=encoding,
                remaining_ms=int(1000 * seconds),
                reply_bytes=reply_bytes,
            )
        )


_PARAMETERS = parameters()
NOTHING = federated_pb2.FederatedOrder()


def message(id: str, phase: str, **config: Any) -> message_pb2.Message:  # noqa: A002
    metadata = message_pb2.Metadata(
        run_id=77, message_id=id, src_node_id=1, dst_node_id=2**63 + 5, group_id="1",
        ttl=43200.0, message_type=phase, created_at=1.9e9,
    )  # fmt: skip
    items = [
        message_pb2.ConfigRecord.Item(key=key.replace("_", "-"), value=_value(value))
        for key, value in config.items()
    ]
    record = message_pb2.RecordDict.Item(
        key="config", config_record=message_pb2.ConfigRecord(items=items)
    )
    return message_pb2.Message(metadata=metadata, content=message_pb2.RecordDict(items=[record]))


def _value(value: Any) -> message_pb2.ConfigRecordValue:
    kind = {bool: "bool", int: "sint64", float: "double", str: "string", bytes: "bytes"}
    return message_pb2.ConfigRecordValue(**{kind[type(value)]: value})


def read_reply(data: bytes) -> message_pb2.Message:
    return message_pb2.Message.FromString(data)


def arrays_of(reply: message_pb2.Message, key: str = "arrays") -> message_pb2.ArrayRecord:
    (record,) = [item.array_record for item in reply.content.items if item.key == key]
    return record


def metrics_of(reply: message_pb2.Message) -> dict[str, Any]:
    (record,) = [item.metric_record for item in reply.content.items if item.key == "metrics"]
    found = {}
    for item in record.items:
        value = getattr(item.value, item.value.WhichOneof("value") or "")
        found[item.key] = list(value.vals) if hasattr(value, "vals") else value
    return found
