"""What aggregating takes of a coordinator's memory, by the number of replies: over a store on disk.

Each figure is of a process of its own, which has the coordinator in it and nothing else; the replies are
written by the intake before it begins to look at them, and the high-water mark is set back then.
"""

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from agent.clock import SystemClock
from agent.federated.evaluation import Evaluation
from agent.federated.parameters import Float32s
from agent.federated.reply import train_reply
from agent.federated.trainer import TrainResult
from agent.federated.update import as_steps
from controller.federated.coordinator.loop import coordinate
from controller.federated.coordinator.request import written_arrays
from controller.federated.intake.actions import Intake
from controller.federated.readiness import DeviceReadiness
from controller.federated.run import Run, RunState
from controller.federated.task import Task, TaskState
from controller.fleet.device import Device
from controller.store.blob_folder import BlobFolder
from controller.store.exchange import Place, StoreExchange
from controller.store.reply_folder import ReplyFolder
from controller.store.sql import SqlStore
from protos.documents import sha256
from protos.flower import message_pb2
from protos.limits import CHUNK_BYTES, MIB
from protos.v1 import federated_pb2
from simulations.study.table import Scale, Table

MODEL: Final = "wide"
MANIFEST: Final = "0" * 64
PARAMETERS: Final = 8
COUNTS: Final[dict[str, tuple[int, ...]]] = {
    "FedAvg": (50, 500),
    "FedAvgM": (50, 500),
    "FedAdam": (50, 500),
    "FedMedian": (50, 200),
}
"""Replies by strategy. A median needs all of them: so many as fit into any machine."""

QUICK: Final[dict[str, tuple[int, ...]]] = {"FedAvg": (5, 20)}
QUICK_ROUNDS: Final = 20
"""With no more rounds than that, the quick figures."""

RESET: Final = "5"
"""Written to ``clear_refs``, it sets the high-water mark back to what is resident."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Of a process.

    Attributes:
        before: resident bytes when all replies had come.
        most: at most, from then to the run's end.
    """

    before: int
    most: int


def tables(scale: Scale, workers: int) -> list[Table]:
    """Peaks by strategy and number of replies."""
    wanted = QUICK if scale.rounds <= QUICK_ROUNDS else COUNTS
    rows = []
    for name, counts in wanted.items():
        for count in counts if scale.has(name) else ():
            found = _alone(name, count) if workers else peak(name, count)
            more = (found.most - found.before) / MIB
            rows.append((name, count, found.before / MIB, more))
    return [
        Table(
            "memory",
            "Memory of a coordinator that aggregates a model of 1 MiB",
            ("strategy", "replies", "MiB before", "MiB more at the peak"),
            tuple(rows),
            ("Resident, of a process of its own; int8 updates, replies on disk.",),
        )
    ]


def _alone(name: str, count: int) -> Peak:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(peak, name, count).result()


def peak(name: str, count: int) -> Peak:
    """Aggregates one round of so many replies in this process."""
    with tempfile.TemporaryDirectory() as folder:
        crowd = Crowd(Path(folder), name, count)
        coordinate(crowd.exchange, lambda: crowd.initial)
        most = _status("VmHWM")
        state, error = crowd.exchange.run.state, crowd.exchange.run.error
        crowd.store.close()
    if state is not RunState.FINISHED:
        raise RuntimeError(f"{name} with {count} replies: {error}")
    return Peak(crowd.before, most)


@dataclass
class Crowd:
    """A controller's store with a run, and devices that all have learnt the same.

    Attributes:
        before: resident bytes when the last reply had come.
    """

    folder: Path
    strategy: str
    count: int
    before: int = 0
    _arrays: dict[str, Float32s] = field(init=False)

    def __post_init__(self) -> None:
        """Enrols the devices, which all say that they are ready."""
        clock = SystemClock()
        self.store = SqlStore.open(f"sqlite:///{self.folder}/muster.db")
        replies = ReplyFolder.open(self.folder / "replies")
        self._intake = Intake(self.store, replies)
        rng = np.random.default_rng(0)
        each = MIB // 4 // PARAMETERS
        self._arrays = {
            f"p{number}": rng.standard_normal(each).astype(np.float32)
            for number in range(PARAMETERS)
        }
        self.initial = written_arrays(self._arrays)
        now_ms = int(clock.now().timestamp() * 1000)
        run = _run(self.strategy, self.count, now_ms)
        with self.store.begin() as tx:
            tx.runs.put(run)
            for name in self._names():
                tx.devices.put(Device(name, 1.0, b"pem", "1", 2e9, connected=True))
                tx.tasks.replace_readiness(name, [_ready(name, now_ms)])
        place = Place(
            self.store,
            BlobFolder.open(self.folder / "blobs"),
            replies,
            clock,
            threading.Event(),
            self._told,
        )
        self._now_ms: Callable[[], int] = lambda: int(clock.now().timestamp() * 1000)
        self.exchange = StoreExchange(place, run.id)

    def _names(self) -> list[str]:
        return [f"cam-{number:04d}" for number in range(self.count)]

    def _told(self) -> None:
        """Everybody who was asked replies at once."""
        with self.store.read() as tx:
            asked = [one for one in tx.tasks.unsettled() if one.state is TaskState.POSTED]
        after = {name: np.asarray(one + np.float32(0.01)) for name, one in self._arrays.items()}
        record = as_steps(self._arrays, after, {}).record
        for task in asked:
            self._reply(task, record)
        if asked:
            del after, record
            Path("/proc/self/clear_refs").write_text(RESET)
            self.before = _status("VmRSS")

    def _reply(self, task: Task, record: message_pb2.ArrayRecord) -> None:
        message = message_pb2.Message.FromString(task.message)
        result = TrainResult(
            parameters={},
            steps=1,
            examples=10,
            first_loss=1.0,
            last_loss=1.0,
            before=Evaluation(),
            after=Evaluation(),
        )
        reply = train_reply(message, task.arrays[0].key, record, result)
        digest = sha256(reply)
        for offset in range(0, len(reply), CHUNK_BYTES):
            piece = federated_pb2.ReplyPiece(
                task_id=task.id,
                sha256=digest,
                length=len(reply),
                offset=offset,
                data=reply[offset : offset + CHUNK_BYTES],
            )
            self._intake.reply(task.device, piece.SerializeToString(), self._now_ms)


def _run(strategy: str, count: int, now_ms: int) -> Run:
    file = (
        f'[run]\nmodel = "{MODEL}/1"\nrounds = 1\n'
        f'[strategy]\nname = "{strategy}"\n'
        f'[round]\nminimum_cohort = {count}\ndeadline = "1h"\n'
        "[evaluation]\nbefore = false\nafter = false\n"
    )
    return Run(
        id=f"{MODEL}-r1",
        number=1,
        model=MODEL,
        version=1,
        manifest_sha256=MANIFEST,
        file=file,
        state=RunState.RUNNING,
        rounds=1,
        created_ms=now_ms,
        created_by="study",
    )


def _ready(name: str, now_ms: int) -> DeviceReadiness:
    return DeviceReadiness(
        device=name,
        model=MODEL,
        version=1,
        manifest_sha256=MANIFEST,
        eligible=True,
        examples=10,
        told_ms=now_ms,
    )


def _status(key: str) -> int:
    """Bytes, of what the kernel says of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
