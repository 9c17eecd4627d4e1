"""Carries out the tasks that a device is told, one at a time; the newest order decides which."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from agent.clock import Clock
from agent.errors import AgentError
from agent.federated.errors import TaskUnfit
from agent.federated.ledger.actions import Ledger
from agent.federated.machine import FINAL, REPLIED, Event, State
from agent.federated.order import Order, begun, read_order
from agent.federated.record import Journal
from agent.federated.task.actions import Means
from agent.federated.task.loop import Happened, TaskWork, Tries, ended, first_of
from agent.store.device_store import DeviceStore
from agent.transport.backoff import Backoff
from agent.waiting import sleep_unless
from protos.v1 import federated_pb2

log = logging.getLogger(__name__)

MARGIN: Final = 0.1
MARGIN_SECONDS: Final = 5.0
"""So much of the time that a task has, and at most so many seconds, stay for sending."""


@dataclass(eq=False)
class TaskLoop:
    """Does what it is ordered, and sends what came of it, over restarts too.

    Use it on one event loop's thread; ``take`` at every order, ``link_up`` at every link.

    Attributes:
        on_happened: called after something is durable.
        on_settled: called when nothing is owed for a task any more: the device may be ready for the
            next, or no longer.
    """

    store: DeviceStore
    means: Means
    clock: Clock
    rng: random.Random
    on_happened: Callable[[Happened], None]
    on_settled: Callable[[], None] = lambda: None
    backoff: Backoff = field(default_factory=Backoff)
    _ledger: Ledger = field(init=False)
    _work: TaskWork = field(init=False)
    _order: Order | None = field(init=False, default=None)
    _fresh: bool = field(init=False, default=False)
    _waits: bool = field(init=False, default=False)
    _changed: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Fetching and sending wait as the loop does."""
        means, tries = self.means, Tries(self.clock, self.rng, self.backoff)
        self._ledger = Ledger(self.store, means.blobs, self.clock, means.offload)
        self._work = TaskWork(
            self._ledger, means, tries, self.clock, self.rng, self.on_happened, self.on_settled
        )

    @property
    def journal(self) -> Journal:
        """What is durable."""
        return self._ledger.journal

    @property
    def is_settled(self) -> bool:
        """Whether all that was ordered is done, and nothing is to be sent."""
        return self._waits and not self._changed.is_set()

    def take(self, order: federated_pb2.FederatedOrder) -> None:
        """Does that from now on: it replaces what was ordered before."""
        try:
            read = read_order(order)
        except TaskUnfit as error:
            log.warning("federated.order-dropped code=%s detail=%s", error.code, error.detail)
            return
        if read is not None:
            margin = min(MARGIN_SECONDS, MARGIN * read.seconds)
            self._work.deadline = self.clock.monotonic() + read.seconds - margin
        self._order, self._fresh = read, True
        self._changed.set()

    def link_up(self) -> None:
        """A new link is there: what failed for the want of one is tried again at once."""
        self._work.tries.link_up()

    async def run(self) -> NoReturn:
        """Never returns."""
        failures = 0
        while True:
            self._changed.clear()
            try:
                await self._ledger.recover()
                await self._follow()
                await self._work_unless_ordered_otherwise()
                failures = 0
            except AgentError as error:
                log.warning("federated.not-done code=%s detail=%s", error.code, error.detail)
                failures += 1
            except Exception:
                log.exception("federated.not-done")
                failures += 1
            if failures:
                pause = self.backoff.delay(failures - 1, self.rng)
                await sleep_unless(self.clock, pause, self._changed)
                continue
            self._waits = True
            await self._changed.wait()
            self._waits = False

    async def rest(self) -> None:
        """Notes that the agent ends because it was asked to. Call after ``run`` has ended.

        Raises:
            DiskFull, StoreError: it could not be written; the restart will count as a crash.
        """
        await self._ledger.rest()

    async def _follow(self) -> None:
        """Brings the journal to what was ordered, unless there is a reply to be sent before that."""
        if not self._fresh:
            return
        order, task = self._order, self.journal.task
        if order is not None and (task is None or task.id != order.id):
            if task is not None and task.state is State.SENDING:
                return  # its receipt decides; then this order is looked at again
            await self._ledger.begin(begun(order, self._ledger.now()))
        else:
            await self._ledger.move(Event.TELL if order is not None else Event.WITHDRAW)
            if order is None:
                await self._ledger.collect()
        if self._order is order:
            self._fresh = False

    async def _work_unless_ordered_otherwise(self) -> None:
        work = asyncio.ensure_future(self._do())
        try:
            while not work.done():
                await first_of(work, self._changed.wait())
                if not work.done() and self._changed.is_set():
                    if self._is_ended_by_order():
                        break
                    self._changed.clear()
        finally:
            await ended(work)
        if not work.cancelled():
            work.result()
        if self._fresh:
            self._changed.set()

    def _is_ended_by_order(self) -> bool:
        """Whether what is under way is not wanted any more. The deadline may have moved, too."""
        task = self.journal.task
        if task is None or task.state in REPLIED:
            return False
        if self._order is not None and self._order.id == task.id:
            self._fresh = False
            return False
        return True

    async def _do(self) -> None:
        """Returns when the task in hand asks for nothing (more)."""
        task = self.journal.task
        if task is None or task.state in FINAL or task.state is State.IDLE:
            return
        if task.state is not State.SENDING:
            if self._order is None or self._order.id != task.id:
                return  # it has been taken back, and that is not yet written
            await self._work.reply_to(self._order)
        await self._work.send()
