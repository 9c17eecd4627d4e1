"""A controller that can be killed at any moment: its disk is copied whenever something is written there.

What a process that is killed leaves is what it has written until then, and what its devices know. So a
copy of both, and a controller that is started on the copy, is a controller that was killed just there.
"""

import asyncio
import copy
import hashlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import event

from agent.federated.reply import FlowerError, error_reply, evaluate_reply
from agent.federated.update import as_steps
from agent.runtimes.onnx import OnnxRuntime
from controller.candidate.actions import Preparing
from controller.desk import DeviceDesk
from controller.federated.actions import Wish, start
from controller.federated.coordinator.loop import coordinate, parameters
from controller.federated.coordinator.request import arrays_of
from controller.federated.intake.actions import Intake
from controller.federated.readiness import DeviceReadiness
from controller.federated.run import Run, RunState
from controller.federated.settling import awaits_version
from controller.federated.supervision.loop import RunLoop
from controller.federated.telling.loop import OrderLoop
from controller.federation import Candidates
from controller.home import Home
from controller.registry.actions import register
from controller.registry.registration import Registration
from controller.registry.training import Training
from controller.registry.version import Event, step
from controller.signing.actions import Founders, create_repository
from controller.store.blob_folder import BlobFolder
from controller.store.exchange import Place, StoreExchange
from controller.store.reply_folder import ReplyFolder
from controller.store.store import Store, Transaction
from protos.flower import message_pb2
from protos.manifest import Role, read_manifest
from protos.v1 import command_pb2, federated_pb2
from tests.attacks.world import World, new_key
from tests.contracts.stored import DEVICE
from tests.controller.candidate.runs import TURNED, evaluation
from tests.controller.federated.coordinator.pretend import reply
from tests.controller.registry.building import classifier
from tests.controller.registry.registry import NOW, REFERENCE

RUN = "things-r1"
FILE = """
[run]
model = "things/1"
rounds = 2
[strategy]
name = "FedAdam"
eta = 0.1
[round]
over_selection = 1.0
[evaluation]
before = false
"""
PIECE = 400
"""Of the bytes of a reply: most take two."""
MOST_TURNS = 50


@dataclass
class Device:
    """What a device knows, which outlives the controller.

    Attributes:
        willing: whether it trains.
        trained: how often it has: it learns something else each time, so that to be asked once too often
            shows in the bits.
        replies: by task, whole.
        have: by task, how much of its reply the controller has said that it has.
        done: tasks of which the controller has all.
    """

    name: str
    willing: bool = True
    trained: int = 0
    order: federated_pb2.FederatedTask | None = None
    replies: dict[str, bytes] = field(default_factory=dict)
    have: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def told(self, command: bytes) -> None:
        """What it shall do now, or that it shall do nothing."""
        order = command_pb2.Command.FromString(command).federated
        self.order = order.task if order.HasField("task") else None

    def piece(self, blobs: BlobFolder) -> bytes | None:
        """The next piece of its reply; None if there is nothing to say."""
        order = self.order
        if order is None or order.task_id in self.done:
            return None
        task = order.task_id
        if task not in self.replies:
            self.replies[task] = self._reply(order, blobs)
        whole, have = self.replies[task], self.have.get(task, 0)
        return federated_pb2.ReplyPiece(
            task_id=task,
            sha256=hashlib.sha256(whole).hexdigest(),
            length=len(whole),
            offset=have,
            data=whole[have : have + PIECE],
        ).SerializeToString()

    def received(self, answer: bytes) -> None:
        """The controller's receipt of the last piece."""
        receipt = federated_pb2.ReplyReceipt.FromString(answer)
        assert self.order is not None
        if receipt.complete or receipt.HasField("refused"):
            self.done.add(self.order.task_id)
        else:
            self.have[self.order.task_id] = receipt.have

    def _reply(self, order: federated_pb2.FederatedTask, blobs: BlobFolder) -> bytes:
        message = message_pb2.Message.FromString(order.message)
        if not self.willing:
            return error_reply(message, FlowerError.NODE_UNAVAILABLE, "on-battery", "not now")
        before = arrays_of(b"".join(blobs.read(order.arrays[0].sha256)))
        if message.metadata.message_type == "evaluate":
            return evaluate_reply(message, evaluation(before["w"], rows=150))
        self.trained += 1
        draw = np.random.default_rng([self.trained, *self.name.encode()])
        towards = before["w"] + 0.4 * (TURNED - before["w"]) + draw.normal(size=TURNED.shape) / 50
        update = as_steps(before, {"w": towards.astype(np.float32)}, {})
        return reply(message, update.record, {"num-examples": 40, "train_loss": 0.5})


def willing() -> list[Device]:
    """Two that train, and one that does not want to."""
    return [Device("lens-1"), Device("lens-2"), Device("lens-3", willing=False)]


class Kept:
    """A store, blobs or replies; ``written`` is called when it has changed what is on the disk."""

    def __init__(self, inner: Any, written: Callable[[], None]) -> None:
        self._inner = inner
        self._written = written

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        with self._inner.begin() as tx:
            yield tx
        self._written()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in {"put", "delete", "add", "remove"}:
            return found

        def act(*given: Any) -> Any:
            result = found(*given)
            self._written()
            return result

        return act


@dataclass
class Shot:
    """What a controller leaves that was killed: its folder and its devices, at some time.

    ``closed`` phases and ``replies`` that wait are in it.
    """

    folder: Path
    devices: list[Device]
    at: float
    closed: int = 0
    replies: int = 0


class Time:
    """A clock that goes on when there is nothing to do."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await asyncio.sleep(0)


class NoRollouts:
    def wake(self) -> None:
        pass

    async def connected(self, device: str) -> None:
        del device


class Controller:
    """One that was just started on what another has left, until the version is there.

    Its coordinator is a thread, and one of all does something at a time.
    """

    def __init__(self, shot: Shot, store: Store, preparing: Preparing, shots: Path | None) -> None:
        home = Home(shot.folder)
        self.devices = shot.devices
        self.clock = Time(shot.at)
        self.shots: list[Shot] = []
        self._folder, self._at, self._last = shot.folder, shots, ""
        self.store: Any = Kept(store, self._written)
        self.blobs: Any = Kept(BlobFolder.open(home.blobs), self._written)
        self.replies: Any = Kept(ReplyFolder.open(home.replies), self._written)
        self.desk = DeviceDesk(self.store, self.blobs, self.clock, None)  # type: ignore[arg-type]
        self.orders = OrderLoop(self.store, self, self.clock)
        made = Candidates(self.store, self.blobs, preparing, self.clock)
        threads = Coordinators(self)
        self.runs = RunLoop(self.store, threads, self.clock, self.orders.wake, made)
        self.end: Mapping[str, Any] = {}
        self.desk.rollouts = NoRollouts()
        self.desk.federated.intake = Intake(self.store, self.replies)
        self.desk.federated.orders = self.orders

    async def live(self) -> None:
        """All that there is to do."""
        with self.store.begin() as tx:
            tx.devices.disconnect_all()
        for device in self.devices:
            await self.desk.arrived(device.name)
        for _ in range(MOST_TURNS):
            if self.run.state is RunState.FINISHED and not awaits_version(self.run):
                await self.runs.end()
                return
            await self.runs.turn()
            if RUN in self.runs._working:
                await self.runs._working[RUN].watch
            elif self.runs._handing.task is not None:
                await self.runs._handing.task
            self.clock.at += 1.0
        raise AssertionError(f"it does not come to its end: {self.run}")

    @property
    def run(self) -> Run:
        with self.store.read() as tx:
            found: Run | None = tx.runs.get(RUN)
        assert found is not None
        return found

    def connected(self) -> frozenset[str]:
        return frozenset(one.name for one in self.devices)

    async def send(self, device: str, command: bytes) -> None:
        next(one for one in self.devices if one.name == device).told(command)

    async def disconnect(self, device: str) -> None:
        del device

    async def moment(self, seconds: float) -> None:
        """The next thing happens, else time passes."""
        await self.orders.turn()
        for device in self.devices:
            piece = device.piece(self.blobs)
            if piece is not None:
                device.received(await self.desk.federated.reply(device.name, piece))
                self.clock.at += 0.01
                return
        self.clock.at += seconds

    def _written(self) -> None:
        if self._at is None:
            return
        digest = hashlib.sha256()
        for path in sorted(self._folder.rglob("*")):
            if path.is_file() and not path.name.endswith("-shm"):
                digest.update(f"{path.relative_to(self._folder)}\n".encode() + path.read_bytes())
        if digest.hexdigest() == self._last:
            return
        self._last = digest.hexdigest()
        folder = self._at / str(len(self.shots))
        copied(self._folder, folder)
        with closing(
            sqlite3.connect(Home(self._folder).database)
        ) as database:  # beside any transaction
            (closed,) = database.execute("SELECT count(*) FROM phases").fetchone()
            query = "SELECT count(*) FROM tasks WHERE state = 'replied'"
            (replies,) = database.execute(query).fetchone()
        devices = copy.deepcopy(self.devices)
        self.shots.append(Shot(folder, devices, self.clock.at, closed, replies))


class Coordinators:
    """``controller.runtimes.coordinators.Coordinators``: each a thread that does something when it may."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def start(self, run: str, tell: Callable[[], None]) -> "Coordinator":
        """Starts one."""
        made = self._controller
        news: Any = News(made, asyncio.get_running_loop())
        place = Place(made.store, made.blobs, made.replies, made.clock, news, tell)
        exchange = StoreExchange(place, run)

        def initial() -> bytes:
            return parameters(made.store, made.blobs, exchange.run)

        return Coordinator(asyncio.create_task(asyncio.to_thread(coordinate, exchange, initial)))


@dataclass
class Coordinator:
    """``controller.runtimes.coordinators.Coordinator``."""

    work: asyncio.Task[None]

    async def ended(self) -> int:
        """When the run is done."""
        await self.work
        return 0

    def wake(self) -> None:
        """It looks by itself."""

    def kill(self) -> None:
        """It is done with."""


@dataclass
class News:
    """In place of an event: while the coordinator waits, the next thing happens."""

    controller: Controller
    loop: asyncio.AbstractEventLoop

    def wait(self, seconds: float) -> None:
        """On the coordinator's thread."""
        asyncio.run_coroutine_threadsafe(self.controller.moment(seconds), self.loop).result()

    def clear(self) -> None:
        """Nothing is kept."""


def copied(folder: Path, to: Path) -> None:
    """The folder as it is; the index of the log, which is made anew, is left out."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*-shm"))


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """The store there, which waits for no disk: what a process has written outlives its kill without."""

    def hasten(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    with closing(Home(folder).open_store()) as store:
        event.listen(store._engine, "connect", hasten)
        with closing(store._engine.raw_connection()) as there_already:
            hasten(there_already.driver_connection)
        yield store


async def lived(shot: Shot, preparing: Preparing, shots: Path | None = None) -> Controller:
    """A controller that has come to the end of all on what is there."""
    with opened(shot.folder) as store:
        controller = Controller(shot, store, preparing, shots)
        await controller.live()
        controller.end = told(store, controller.devices)
    return controller


def told(store: Store, devices: Sequence[Device]) -> Mapping[str, Any]:
    """All that must be the same, whatever has happened on the way."""
    with store.read() as tx:
        run = tx.runs.get(RUN)
        assert run is not None
        assert run.candidate is not None, run.error
        version = tx.registry.version("things", run.candidate)
        assert version is not None
        files = read_manifest(version.manifest).files
        return {
            "parameters": run.arrays_sha256,
            "version": (run.candidate, version.state, version.reasons, run.error),
            "files": {role: one.sha256 for role, one in files.items() if role is not Role.CARD},
            "waits": tx.registry.pending("things", run.candidate) is not None,
            "phases": [replace(one, began_ms=0, ended_ms=0) for one in tx.runs.phases(RUN)],
            "tasks": tx.tasks.counts(RUN),
            "audit": Counter(one.entry.action for one in tx.audit.records(0, 1000)),
            "trained": {one.name: one.trained for one in devices},
        }


class _Office(World):
    """Who signs, over another store."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store  # type: ignore[assignment]
        founders = Founders(
            root=self.keys.root,
            root_threshold=2,
            targets=[self.keys.targets],
            targets_threshold=1,
            director=[self.keys.director.public_key],
        )
        with store.begin() as tx:
            create_repository(tx, founders, self.keys.online, self.act())


def founded(folder: Path) -> Shot:
    """A controller whose devices run a version that can be trained, and a run that has just begun."""
    folder.mkdir()
    home = Home(folder)
    registration = Registration(
        "things",
        classifier().SerializeToString(),
        REFERENCE,
        training=Training(trainable="all"),
    )
    devices = willing()
    with opened(folder) as store:
        rng = np.random.default_rng(5)
        blobs = BlobFolder.open(home.blobs)
        parent = register(store, blobs, OnnxRuntime(), registration, "ann", NOW, rng)
        _Office(store).delegate("things", [new_key()], 1)
        version = parent.version
        for happened in (Event.SIGNED_ENOUGH, Event.PUBLISHED):
            version = replace(version, state=step(version.state, happened))
        with store.begin() as tx:
            tx.registry.put_version(version)
            tx.registry.remove_pending("things", 1)
            for one in devices:
                tx.devices.put(replace(DEVICE, id=one.name))
                said = DeviceReadiness(
                    device=one.name,
                    model="things",
                    version=1,
                    manifest_sha256=version.manifest_sha256,
                    eligible=True,
                )
                tx.tasks.replace_readiness(one.name, [said])
            start(tx, Wish(FILE, "ann"), NOW)
    return Shot(folder, devices, NOW)
