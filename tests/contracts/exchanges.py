"""The exchanges that the contract is held to: over the controller's store, and in memory."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from agent.clock import SystemClock
from controller.enrolment.actions import revoke
from controller.federated.exchange import Exchange
from controller.federated.intake.actions import Intake
from controller.federated.run import Run, RunEvent, step
from controller.federated.settling import disowned
from controller.federated.task import node_id
from controller.store.blob_folder import BlobFolder
from controller.store.exchange import Place, StoreExchange
from controller.store.reply_box import ReplyBox
from controller.store.reply_folder import ReplyFolder
from controller.store.sql import SqlStore
from controller.store.store import Store
from protos.v1 import federated_pb2
from simulations.federated.memory_exchange import MemoryDevice, MemoryExchange, ledger_of
from simulations.federated.memory_replies import MemoryReplies
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.contracts.federated_values import READY, RUN
from tests.contracts.stored import DEVICE

DEVICES = ("dev-1", "dev-2", "dev-3")


class Fleet(Protocol):
    """One run, three devices that would train, and one that would not."""

    def exchange(self) -> Exchange:
        """As a coordinator has it that was just started."""
        ...

    def reply(self, device: str, task: str, reply: bytes) -> None:
        """The device sends a whole reply."""
        ...

    def revoke(self, device: str) -> None:
        """Somebody revokes the device."""
        ...

    def stop(self) -> None:
        """Somebody asks that the run ends."""
        ...

    def close(self) -> None: ...


class InMemory:
    def __init__(self, run: Run) -> None:
        devices = [MemoryDevice(name, lambda _, __: None) for name in DEVICES]
        away = MemoryDevice("dev-4", lambda _, __: None, connected=False, eligible=False)
        away.reason = "battery"
        self.ledger = ledger_of(run, [*devices, away])

    def exchange(self) -> Exchange:
        return MemoryExchange(self.ledger)

    def reply(self, device: str, task: str, reply: bytes) -> None:
        assert self.ledger.tasks[task].device == device
        self.ledger.answer(task, reply)

    def revoke(self, device: str) -> None:
        tasks = self.ledger.tasks
        tasks |= {one.id: one for one in disowned(tasks.values(), device)}

    def stop(self) -> None:
        run = self.ledger.run
        self.ledger.run = replace(run, state=step(run.id, run.state, RunEvent.STOP))

    def close(self) -> None:
        pass


class OverStore:
    def __init__(self, run: Run, store: Store, blobs: object, replies: ReplyBox) -> None:
        self.store = store
        self.news = threading.Event()
        self.told = 0
        self.place = Place(store, blobs, replies, SystemClock(), self.news, self._told)  # type: ignore[arg-type]
        self.intake = Intake(store, replies, lambda _: self.news.set())
        self.run = run.id
        with store.begin() as tx:
            tx.runs.put(run)
            for name in (*DEVICES, "dev-4"):
                tx.devices.put(replace(DEVICE, id=name))
                tx.devices.touch(name, 2.0, connected=name in DEVICES)
                said = replace(READY, device=name, examples=100)
                if name == "dev-4":
                    said = replace(said, eligible=False, reason="battery")
                tx.tasks.replace_readiness(name, [said])

    def _told(self) -> None:
        self.told += 1

    def exchange(self) -> Exchange:
        return StoreExchange(self.place, self.run)

    def reply(self, device: str, task: str, reply: bytes) -> None:
        piece = federated_pb2.ReplyPiece(
            task_id=task, sha256=hashlib.sha256(reply).hexdigest(), length=len(reply), data=reply
        )
        self.intake.reply(device, piece.SerializeToString(), self.exchange().now_ms)

    def revoke(self, device: str) -> None:
        with self.store.begin() as tx:
            revoke(tx, device, "ada", self.exchange().now_ms() / 1000)

    def stop(self) -> None:
        with self.store.begin() as tx:
            run = tx.runs.get(self.run)
            assert run is not None
            tx.runs.put(replace(run, state=step(run.id, run.state, RunEvent.STOP)))
        self.news.set()

    def close(self) -> None:
        self.store.close()


def over_memory_store(run: Run, _: Path) -> OverStore:
    return OverStore(run, MemoryStore(), MemoryControllerBlobs(), MemoryReplies())


def over_sqlite(run: Run, folder: Path) -> OverStore:
    return OverStore(
        run,
        SqlStore.open(f"sqlite:///{folder}/muster.db"),
        BlobFolder.open(folder / "blobs"),
        ReplyFolder.open(folder / "replies"),
    )


FLEETS: dict[str, Callable[[Run, Path], Fleet]] = {
    "memory": lambda run, _: InMemory(run),
    "memory-store": over_memory_store,
    "sqlite": over_sqlite,
}
APP_RUN = replace(RUN, app="my:app")
NODES = sorted(node_id(name) for name in (*DEVICES, "dev-4"))
