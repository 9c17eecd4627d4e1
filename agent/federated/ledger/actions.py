"""Writes the journal before anything is acted on: memory and disk say the same."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from msgspec.structs import replace

from agent.clock import Clock
from agent.errors import AgentError
from agent.federated.machine import Event, State
from agent.federated.record import Journal, Task, at_rest, moved, resumed
from agent.store.blob_store import BlobStore
from agent.store.device_store import DeviceStore
from agent.waiting import finished

log = logging.getLogger(__name__)

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

T = TypeVar("T")


class Offload(Protocol):
    """Runs what waits for the disk, off the event loop: ``asyncio.to_thread``, or a twin of it."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What ``work`` returns or raises."""
        ...


@dataclass(eq=False)
class Ledger:
    """The journal, and the blobs that it names. There is one writer at a time.

    Its coroutines raise ``DiskFull`` and ``StoreError``: then nothing has changed.
    """

    store: DeviceStore
    blobs: BlobStore
    clock: Clock
    offload: Offload
    journal: Journal = field(init=False, default_factory=Journal)
    _loaded: bool = field(init=False, default=False)

    @property
    def task(self) -> Task:
        """The task in hand, or that was last."""
        task = self.journal.task
        if task is None:
            raise RuntimeError("there is no task")
        return task

    async def recover(self) -> None:
        """Reads what is durable, once, and notes what the restart means."""
        if self._loaded:
            return
        before = await self.offload(self.store.journal.load)
        after = resumed(before, self.now())
        if after != before:
            await self._save(after)
        self.journal, self._loaded = after, True
        await self.collect()
        if after.task is not None:
            log.info("federated.resumed %s", as_it_stands(after.task))

    async def begin(self, task: Task) -> None:
        """That is the task in hand from now on."""
        await self._save(replace(self.journal, task=task))
        log.info("federated.told %s", as_it_stands(task))

    async def move(self, event: Event, beside: Mapping[str, Any] = NOTHING, **what: Any) -> None:
        """Makes the event durable, with what the task says from then on, and what stands beside it."""
        before = self.journal.task
        if before is None:
            return
        journal = replace(self.journal, task=replace(before, **what), **beside)
        await self._save(moved(journal, event, self.now()))
        if self.task.state is not before.state:
            log.info("federated.%s %s", event, as_it_stands(self.task))

    async def move_from(self, state: State, **what: Any) -> None:
        """Goes on from ``state``, unless that was done before something failed."""
        if self.task.state is state:
            await self.move(Event.OK, **what)

    async def rest(self) -> None:
        """Notes that the agent ends because it was asked to."""
        if self._loaded and at_rest(self.journal) != self.journal:
            await self._save(at_rest(self.journal))

    async def collect(self) -> None:
        """Removes blobs that the journal does not name. What stays of them costs only room."""
        try:
            await self.offload(partial(self.blobs.keep_only, set(self.journal.blobs())))
        except AgentError as error:
            log.warning("federated.not-collected code=%s detail=%s", error.code, error.detail)

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.now().timestamp()

    async def _save(self, journal: Journal) -> None:
        """Carried to its end even if whoever waits for it is ended."""

        async def write() -> None:
            await self.offload(partial(self.store.journal.save, journal))
            self.journal = journal

        await finished(write())


def as_it_stands(task: Task) -> str:
    """The task in one line, for the log."""
    return f"task={task.id} run={task.run} round={task.round} phase={task.phase} state={task.state}"
