"""A run's exchange over the controller's own store: what its coordinator process has of the fleet."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.clock import Clock
from controller.errors import NotFound
from controller.federated.exchange import Checkpoint, Node, Outcome, PhaseRecord
from controller.federated.nodes import NodeBook
from controller.federated.readiness import RunBlob, StoredCheckpoint
from controller.federated.run import Run, RunEvent, RunState, step
from controller.federated.run_file import stored_plan
from controller.federated.settling import (
    keeps_its_journal,
    needed,
    require_standing,
    settled,
    taken_back,
)
from controller.federated.task import Task, TaskState
from controller.store.blob_store import BlobStore
from controller.store.reply_box import ReplyBox
from controller.store.store import Store, Transaction

POLL_SECONDS: Final = 0.2
GRACE_MS: Final = 60_000
"""A blob is not removed so soon after it was stored: another run may be about to name it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the controller keeps, and how to reach it.

    Attributes:
        news: set when something may have come; its owner never clears it.
        told: is called when devices have to be told: tasks were posted or closed.
    """

    store: Store
    blobs: BlobStore
    replies: ReplyBox
    clock: Clock
    news: threading.Event
    told: Callable[[], None] = lambda: None


class StoreExchange:
    """``controller.federated.exchange.Exchange``. One thread uses it."""

    def __init__(self, place: Place, run: str) -> None:
        self._place = place
        self._run = run
        self._seen: tuple[RunState, int] | None = None
        self._book: NodeBook | None = None

    @property
    def run(self) -> Run:  # noqa: D102 - see the Protocol
        with self._place.store.read() as tx:
            return _own(tx, self._run)

    def nodes(self) -> Sequence[Node]:  # noqa: D102
        with self._place.store.read() as tx:
            run = _own(tx, self._run)
            if self._book is None:
                self._book = NodeBook(run, stored_plan(run.file).run.selector)
            self._book.take(tx.tasks.standing(run.model, self._book.revision))
            busy = tx.tasks.busy(run.id)
        return self._book.nodes(busy)

    def put_arrays(self, record: bytes) -> str:  # noqa: D102
        return _put(self._place, self._run, record)

    def arrays(self, sha256: str) -> bytes:  # noqa: D102
        return b"".join(self._place.blobs.read(sha256))

    def post(self, tasks: Sequence[Task]) -> None:  # noqa: D102
        with self._place.store.begin() as tx:
            tx.tasks.add(tasks)
        self._place.told()

    def tasks(self, step: int) -> Sequence[Task]:  # noqa: D102
        with self._place.store.read() as tx:
            self._seen = _mark(tx, self._run)
            return tx.tasks.of_run(self._run, step)

    def reply(self, task: str) -> bytes:  # noqa: D102
        return self._place.replies.read(task)

    def close(  # noqa: D102
        self, outcomes: Sequence[Outcome], record: PhaseRecord, checkpoint: Checkpoint | None
    ) -> None:
        stored = _stored(self._place, self._run, checkpoint) if checkpoint else None
        with self._place.store.begin() as tx:
            run = _own(tx, self._run)
            decided = _decided(tx, self._run, outcomes)
            after = [(task, settled(task, outcome)) for task, outcome in decided]
            changed = [now for before, now in after if now is not before]
            late = tx.tasks.counts(self._run, record.step).get(TaskState.LATE, 0)
            late += sum(task.state is TaskState.LATE for task in changed)
            if not tx.runs.add_phase(self._run, _tellable(record, late)):
                return
            require_standing(decided)
            for task in changed:
                tx.tasks.put(task)
            if stored is not None:
                tx.runs.put_checkpoint(self._run, stored)
                tx.runs.put(replace(run, round=stored.round))
        self._place.told()
        if not keeps_its_journal(run):
            for one in outcomes:
                self._place.replies.remove(one.task)
            before_ms = self.now_ms() - GRACE_MS
            forget_blobs(self._place.store, self._place.blobs, self._run, before_ms)

    def phases(self) -> Sequence[PhaseRecord]:  # noqa: D102
        with self._place.store.read() as tx:
            return tx.runs.phases(self._run)

    def checkpoint(self) -> Checkpoint | None:  # noqa: D102
        with self._place.store.read() as tx:
            stored = tx.runs.checkpoint(self._run)
        if stored is None:
            return None
        state = self.arrays(stored.state_sha256)
        return Checkpoint(stored.step, stored.round, stored.arrays_sha256, state)

    def finish(self, arrays_sha256: str) -> None:  # noqa: D102
        _end(self._place, self._run, RunEvent.FINISHED, "", arrays_sha256)

    def fail(self, error: str) -> None:  # noqa: D102
        _end(self._place, self._run, RunEvent.FAILED, error)

    def wait(self, seconds: float) -> None:  # noqa: D102
        clock = self._place.clock
        until = clock.monotonic() + seconds
        while True:
            with self._place.store.read() as tx:
                now = _mark(tx, self._run)
            if self._seen is not None and now != self._seen:
                break
            self._seen = now
            left = until - clock.monotonic()
            if left <= 0:
                return
            self._place.news.wait(min(left, POLL_SECONDS))
            self._place.news.clear()
        self._seen = now

    def now_ms(self) -> int:  # noqa: D102
        return _now_ms(self._place)

    def seen_ms(self) -> int:  # noqa: D102
        with self._place.store.begin():  # nobody is half-way through writing a reply
            return _now_ms(self._place)


def _own(tx: Transaction, run_id: str) -> Run:
    run = tx.runs.get(run_id)
    if run is None:
        raise NotFound(f"no federated run {run_id!r}")
    return run


def _mark(tx: Transaction, run_id: str) -> tuple[RunState, int]:
    """What differs when a coordinator that waits has to look again."""
    return _own(tx, run_id).state, tx.tasks.replied(run_id)


def _put(place: Place, run_id: str, data: bytes) -> str:
    """The blob is there before it is named, and so young that nobody removes it meanwhile."""
    sha256 = place.blobs.put(data)
    with place.store.begin() as tx:
        tx.runs.put_blob(RunBlob(run_id, sha256, _now_ms(place)))
    return sha256


def _stored(place: Place, run_id: str, checkpoint: Checkpoint) -> StoredCheckpoint:
    state = _put(place, run_id, checkpoint.state)
    return StoredCheckpoint(checkpoint.step, checkpoint.round, checkpoint.arrays_sha256, state)


def _decided(
    tx: Transaction, run_id: str, outcomes: Sequence[Outcome]
) -> list[tuple[Task, Outcome]]:
    """Each with its task as it stands."""
    found = []
    for outcome in outcomes:
        task = tx.tasks.get(outcome.task)
        if task is None:
            raise NotFound(f"{run_id}: no task {outcome.task!r}")
        found.append((task, outcome))
    return found


def _end(place: Place, run_id: str, event: RunEvent, error: str, arrays_sha256: str = "") -> None:
    with place.store.begin() as tx:
        run = _own(tx, run_id)
        if run.state is RunState.FINISHED:
            return
        after = replace(
            run,
            state=step(run.id, run.state, event),
            ended_ms=_now_ms(place),
            error=error,
            arrays_sha256=arrays_sha256,
        )
        tx.runs.put(after)
        for task in taken_back(tx.tasks.unsettled(run_id)):
            tx.tasks.put(task)
    place.told()


def _now_ms(place: Place) -> int:
    return int(place.clock.now().timestamp() * 1000)


def forget_blobs(store: Store, blobs: BlobStore, run_id: str, before_ms: int) -> int:
    """Removes blobs that the run stored before then and needs no more; returns how many.

    Raises:
        NotFound: there is no such run.
    """
    with store.begin() as tx:
        run = tx.runs.get(run_id)
        if run is None:
            raise NotFound(f"no federated run {run_id!r}")
        kept = needed(run, tx.tasks.unsettled(run_id), tx.runs.checkpoint(run_id))
        own = [one for one in tx.runs.blobs(run_id) if one.put_ms < before_ms]
        spent = {one.sha256 for one in own if one.sha256 not in kept}
        tx.runs.remove_blobs(run_id, spent)
        spent -= {one.sha256 for one in tx.runs.blobs()}
    return sum(blobs.delete(sha256, before_ms / 1000) for sha256 in sorted(spent))


def _tellable(record: PhaseRecord, late: int) -> PhaseRecord:
    """With metrics that are numbers: what is NaN tells nobody anything, and no JSON holds it."""
    metrics = {name: value for name, value in record.metrics.items() if math.isfinite(value)}
    return replace(record, metrics=metrics, late=late)
