"""Takes what devices send in federated runs. Calls block: async code calls them on a thread."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from controller.errors import DeviceRevoked, DeviceUnknown
from controller.federated.intake.piece import (
    DAMAGED,
    LATE,
    Piece,
    objection,
    read_piece,
    refusal,
)
from controller.federated.intake.readiness_told import read_readiness
from controller.federated.run_file import BadRunFile, stored_plan
from controller.federated.task import OPEN, Task, TaskEvent, TaskState, next_state
from controller.fleet.device import DeviceStatus
from controller.store.reply_box import ReplyBox
from controller.store.store import Store, Transaction
from protos.v1 import federated_pb2

OVER: Final = frozenset({TaskState.SILENT, TaskState.LATE})
"""Its phase was closed without its reply."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Intake:
    """Where replies go, and whom they concern.

    Attributes:
        replied: is told the run of which a reply came; from any thread.
    """

    store: Store
    replies: ReplyBox
    replied: Callable[[str], None] = lambda _: None

    def reply(self, device: str, request: bytes, now_ms: Callable[[], int]) -> bytes:
        """Takes a piece of a reply; returns the serialised ``ReplyReceipt``. Idempotent.

        A reply has the moment at which it is written down, with all other writers waiting: so whoever
        has waited for them, too, has seen all replies of before (``Exchange.seen_ms``).

        Raises:
            InvalidInput: the piece can't be read.
            DeviceUnknown, DeviceRevoked: nobody is to be listened to by this name.
            StoreError: it can't be stored; what was kept stays.
        """
        return self._receipt(device, read_piece(request), now_ms).SerializeToString()

    def readiness(self, device: str, payload: bytes, now_ms: int) -> None:
        """Keeps what the device says of whether it would train.

        Raises:
            InvalidInput: it can't be read.
            DeviceUnknown, DeviceRevoked: nobody is to be listened to by this name.
            StoreError: it can't be stored.
        """
        told = read_readiness(device, payload, now_ms)
        with self.store.begin() as tx:
            _require_admitted(tx, device)
            tx.tasks.replace_readiness(device, told)

    def _receipt(
        self, device: str, piece: Piece, now_ms: Callable[[], int]
    ) -> federated_pb2.ReplyReceipt:
        with self.store.read() as tx:
            _require_admitted(tx, device)
            task = tx.tasks.get(piece.task)
        refused = objection(task, device, piece, now_ms())
        if task is None or (refused and refused != LATE):
            log.debug("federated.piece-refused device=%s code=%s", device, refused)
            return refusal(refused, task if task and task.device == device else None)
        if refused == LATE:
            return self._late(task)
        if task.state is not TaskState.POSTED:
            return self._complete(task, task.reply_length)
        kept = self.replies.add(piece)
        if kept.damaged:
            log.warning("federated.reply-damaged device=%s task=%s", device, task.id)
            return refusal(DAMAGED)
        if not kept.whole:
            return federated_pb2.ReplyReceipt(have=kept.have)
        return self._whole(task, piece.sha256, kept.have, now_ms)

    def _whole(
        self, task: Task, sha256: str, length: int, now_ms: Callable[[], int]
    ) -> federated_pb2.ReplyReceipt:
        """All of it is durable: now it is a reply, unless its phase was closed meanwhile."""
        with self.store.begin() as tx:
            now, at_ms = tx.tasks.get(task.id) or task, now_ms()
            in_time = at_ms <= now.deadline_ms
            if now.state is TaskState.POSTED and in_time:
                stored = replace(
                    now,
                    state=TaskState.REPLIED,
                    reply_sha256=sha256,
                    reply_length=length,
                    replied_ms=at_ms,
                )
                tx.tasks.put(stored)
        if now.state in OVER or (now.state in OPEN and not in_time):
            return self._late(now)
        log.info("federated.replied run=%s device=%s bytes=%d", task.run, task.device, length)
        self.replied(task.run)
        return self._complete(task, length)

    def _late(self, task: Task) -> federated_pb2.ReplyReceipt:
        """Counts it, once; what comes after that costs no transaction."""
        if task.state is TaskState.LATE:
            return refusal(LATE)
        with self.store.begin() as tx:
            now = tx.tasks.get(task.id) or task
            after = late(now.state)
            if after is not now.state:
                tx.tasks.put(replace(now, state=after))
                tx.runs.count_late(now.run, now.step)
        if after is TaskState.LATE:
            self.replies.remove(task.id)
        log.info("federated.late run=%s device=%s round=%d", task.run, task.device, task.round)
        return refusal(LATE)

    def _complete(self, task: Task, length: int) -> federated_pb2.ReplyReceipt:
        """The device may forget its reply, and rest."""
        with self.store.read() as tx:
            run = tx.runs.get(task.run)
        try:
            rest = stored_plan(run.file).round.rest if run else 0.0
        except BadRunFile:
            rest = 0.0  # of a version that had other keys
        return federated_pb2.ReplyReceipt(
            have=length, complete=True, next_after_ms=int(rest * 1000)
        )


def late(state: TaskState) -> TaskState:
    """Where a reply leads that comes when its task is over: one after the deadline ends it, too."""
    closed = next_state(state, TaskEvent.CLOSE) or state
    return next_state(closed, TaskEvent.REPLY) or state


def _require_admitted(tx: Transaction, device: str) -> None:
    known = tx.devices.get(device)
    if known is None:
        raise DeviceUnknown(f"no device {device!r} is enrolled here")
    if known.status is DeviceStatus.REVOKED:
        raise DeviceRevoked(f"device {device!r} was revoked")
