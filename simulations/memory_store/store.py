"""The store itself: one lock, one journal, and every table."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from controller.audit import Entry, Record, chain
from controller.errors import StoreError
from controller.telemetry.record import Rejections
from simulations.memory_store.changes import MemoryChanges
from simulations.memory_store.federated import MemoryRuns, MemoryTasks
from simulations.memory_store.fleet import MemoryDevices, MemoryOperators, MemoryTokens
from simulations.memory_store.fleets import MemoryFleets
from simulations.memory_store.incidents import MemoryIncidents
from simulations.memory_store.journal import Journal
from simulations.memory_store.leases import MemoryLeases
from simulations.memory_store.models import MemoryImageMetadata, MemoryRegistry
from simulations.memory_store.noted import Noted
from simulations.memory_store.rollouts import MemoryRollouts
from simulations.memory_store.stages import MemoryStages
from simulations.memory_store.telemetry import MemoryRetention, MemoryTelemetry, Told
from simulations.memory_store.totals import MemoryTotals


class MemoryAudit:
    """``controller.store.store.Audit``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._records: list[Record] = []
        self._rejections: dict[tuple[str, str], Rejections] = {}

    def append(self, entry: Entry, at_ms: int) -> Record:  # noqa: D102 - see the Protocol
        record = chain(replace(entry, detail=dict(entry.detail)), at_ms, self.last())
        self._journal.append(self._records, record)
        return record

    def last(self) -> Record | None:  # noqa: D102
        return self._records[-1] if self._records else None

    def records(self, after: int = 0, limit: int = 1000) -> Sequence[Record]:  # noqa: D102
        return self._records[after : after + limit]

    def rejections(self, device: str, action: str) -> Rejections | None:  # noqa: D102
        return self._rejections.get((device, action))

    def put_rejections(self, rejections: Rejections) -> None:  # noqa: D102
        self._journal.put(self._rejections, (rejections.device, rejections.action), rejections)


class MemoryTransaction:
    """``controller.store.store.Transaction``."""

    def __init__(self, journal: Journal) -> None:
        noted = Noted()
        self.devices = MemoryDevices(journal, noted)
        self.tokens = MemoryTokens(journal)
        self.operators = MemoryOperators(journal)
        self.registry = MemoryRegistry(journal)
        self.metadata = MemoryImageMetadata(journal)
        self.rollouts = MemoryRollouts(journal, noted)
        self.fleets = MemoryFleets(journal)
        self.stages = MemoryStages(journal, noted)
        self.changes = MemoryChanges(noted, self.devices, self.rollouts, self.stages)
        told = Told()
        self.telemetry = MemoryTelemetry(journal, told)
        self.totals = MemoryTotals(journal, told)
        self.retention = MemoryRetention(journal, told)
        self.audit = MemoryAudit(journal)
        self.leases = MemoryLeases(journal)
        self.tasks = MemoryTasks(journal, noted, self.devices)
        self.runs = MemoryRuns(journal, self.tasks)
        self.incidents = MemoryIncidents(journal)


class MemoryStore:
    """``controller.store.store.Store`` in memory: one transaction at a time, undone if it fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._closed = False
        self._journal = Journal()
        self._tables = MemoryTransaction(self._journal)
        self._writing = _Turn(self._start, self._end)
        self._reading = _Turn(self._enter, self._leave)

    def begin(self) -> AbstractContextManager[MemoryTransaction]:
        """A transaction, once every other has ended.

        Raises:
            StoreError: the store is closed, or the thread holds a transaction already.
        """
        return self._writing

    def read(self) -> AbstractContextManager[MemoryTransaction]:
        """The same tables between two transactions; nothing can be written.

        Raises:
            StoreError: as ``begin``, or something was to be written.
        """
        return self._reading

    def _before_commit(self, changes: int) -> None:
        """Raises if what was written must be undone; there were so many changes."""

    def _after_commit(self, changes: int) -> None:
        """All of it stays."""

    def _enter(self) -> MemoryTransaction:
        me = threading.get_ident()
        if self._holder == me:
            raise StoreError("a transaction inside a transaction")
        self._lock.acquire()
        if self._closed:
            self._lock.release()
            raise StoreError("the store is closed")
        self._holder = me
        return self._tables

    def _start(self) -> MemoryTransaction:
        tables = self._enter()
        self._journal.start()
        return tables

    def _end(self, done: bool) -> None:
        changes = len(self._journal)
        try:
            if done:
                self._before_commit(changes)
                self._journal.commit()
        finally:
            self._journal.roll_back()  # nothing, once it is committed
            self._leave()
        if done:
            self._after_commit(changes)

    def _leave(self, _: bool = True) -> None:
        self._holder = None
        self._lock.release()

    def close(self) -> None:
        """Nothing can be read or written from here on. May be called twice."""
        self._closed = True


class _Turn:
    """Turns at the store, as a context: a generator would cost more than what is done in it."""

    __slots__ = ("_enter", "_leave")

    def __init__(
        self, enter: Callable[[], MemoryTransaction], leave: Callable[[bool], None]
    ) -> None:
        self._enter = enter
        self._leave = leave

    def __enter__(self) -> MemoryTransaction:
        return self._enter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave(kind is None)
