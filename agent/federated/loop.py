"""Carries out the tasks that a device is told, one at a time; the newest order decides what."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

from msgspec.structs import replace

from agent.clock import Clock
from agent.errors import AgentError, StoreError
from agent.federated.errors import TaskUnfit, TooLate
from agent.federated.machine import FINAL, REPLIED, Event, State
from agent.federated.order import Order, begun, message_of, read_order
from agent.federated.record import TRAIN, Journal, Rest, Task, at_rest, moved, resumed
from agent.federated.reply import FlowerError, error_reply
from agent.federated.task.actions import (
    Means,
    Result,
    as_it_stands,
    carried_out,
    examine,
    kept,
)
from agent.federated.task.declining import flower_error
from agent.federated.task.loop import Tries
from agent.federated.task.pieces import Taken, Unwanted
from agent.store.device_store import DeviceStore
from agent.transport.backoff import Backoff
from agent.waiting import finished, sleep_unless
from protos.v1 import federated_pb2

log = logging.getLogger(__name__)

MARGIN: Final = 0.1
MARGIN_SECONDS: Final = 5.0
"""So much of the time that is left, and at most so many seconds, stay for sending."""

MOST_REST_SECONDS: Final = 30 * 86_400.0
"""No controller sends a device to sleep for longer."""

JITTER: Final = 0.25
"""A rest is longer by up to that share of it, so that a fleet does not come back together."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that the controller's log shall tell of a task.

    Attributes:
        name: "federated.trained", ….
        code: why it was declined, or refused; empty if it went well.
    """

    name: str
    task: Task
    code: str
    detail: str


@dataclass(eq=False)
class TaskLoop:
    """Does what it is ordered, and sends what came of it, over restarts too.

    Use it on one event loop's thread; ``take`` at every order, ``link_up`` at every link.

    Attributes:
        on_happened: called after something is durable.
        on_rest: called when the device may take tasks again, or no longer.
    """

    store: DeviceStore
    means: Means
    clock: Clock
    rng: random.Random
    on_happened: Callable[[Happened], None]
    on_rest: Callable[[], None] = lambda: None
    backoff: Backoff = field(default_factory=Backoff)
    journal: Journal = field(init=False, default_factory=Journal)
    _loaded: bool = field(init=False, default=False)
    _order: Order | None = field(init=False, default=None)
    _fresh: bool = field(init=False, default=False)
    _deadline: float = field(init=False, default=0.0)
    _changed: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _waits: bool = field(init=False, default=False)
    _tries: Tries = field(init=False)

    def __post_init__(self) -> None:
        """Fetching and sending wait as the loop does."""
        self._tries = Tries(self.clock, self.rng, self.backoff)

    def take(self, order: federated_pb2.FederatedOrder) -> None:
        """Does that from now on: it replaces what was ordered before."""
        try:
            read = read_order(order)
        except TaskUnfit as error:
            log.warning("federated.order-dropped code=%s detail=%s", error.code, error.detail)
            return
        if read is not None:
            margin = min(MARGIN_SECONDS, MARGIN * read.seconds)
            self._deadline = self.clock.monotonic() + read.seconds - margin
        self._order, self._fresh = read, True
        self._changed.set()

    def link_up(self) -> None:
        """A new link is there: what failed for the want of one is tried again at once."""
        self._tries.link_up()

    @property
    def is_settled(self) -> bool:
        """Whether all that was ordered is done, and nothing is to be sent."""
        return self._waits and not self._changed.is_set()

    async def run(self) -> NoReturn:
        """Never returns."""
        failures = 0
        while True:
            self._changed.clear()
            try:
                await self._recover()
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
            else:
                self._waits = True
                await self._changed.wait()
                self._waits = False

    async def rest(self) -> None:
        """Notes that the agent ends because it was asked to. Call after ``run`` has ended.

        Raises:
            DiskFull, StoreError: it could not be written; the restart will count as a crash.
        """
        if self._loaded and at_rest(self.journal) != self.journal:
            await self._save(at_rest(self.journal))

    # --- Which task ------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Reads what is durable, once, and notes what the restart means."""
        if self._loaded:
            return
        before = await self.means.offload(self.store.journal.load)
        self.journal = resumed(before, self._now())
        if self.journal != before:
            await self._save(self.journal)
        await self._collect()
        self._loaded = True
        if self.journal.task is not None:
            log.info("federated.resumed %s", as_it_stands(self.journal.task))

    async def _follow(self) -> None:
        """Brings the journal to what was ordered, unless there is a reply to be sent before that."""
        if not self._fresh:
            return
        order, task = self._order, self.journal.task
        if order is not None and (task is None or task.id != order.id):
            if task is not None and task.state is State.SENDING:
                return  # its receipt decides; then this order is looked at again
            task = begun(order, self._now())
            await self._save(replace(self.journal, task=task))
            log.info("federated.told %s", as_it_stands(task))
        else:
            await self._move(Event.TELL if order is not None else Event.WITHDRAW)
            if order is None:
                await self._collect()
        if self._order is order:
            self._fresh = False

    async def _work_unless_ordered_otherwise(self) -> None:
        work = asyncio.ensure_future(self._work())
        try:
            while not work.done():
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({work, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not work.done() and self._changed.is_set():
                    if self._is_ended_by_order():
                        break
                    self._changed.clear()
        finally:
            await _ended(work)
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

    # --- Doing it --------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Returns when the task in hand asks for nothing (more)."""
        task = self.journal.task
        if task is None or task.state in FINAL or task.state is State.IDLE:
            return
        if task.state is not State.SENDING:
            if self._order is None or self._order.id != task.id:
                return  # it has been taken back, and that is not yet written
            await self._reply_to(self._order)
        await self._send()

    async def _reply_to(self, order: Order) -> None:
        """Returns when a reply is durable: what came of the task, or why nothing did."""
        try:
            result = await self._in_time(self._attempt(order))
        except AgentError as error:
            await self._decline(order, flower_error(error), error.code, error.detail)
        except Exception:
            log.exception("federated.broke task=%s", order.id)
            await self._decline(order, FlowerError.APP_RAISED, "internal", "see the device's log")
        else:
            await self._conclude(result)

    async def _attempt(self, order: Order) -> Result:
        job = await examine(self.means, self.journal, order, self._left())
        await self._move_from(State.TOLD)
        await self._tries.bring(self.means, job)
        await self._move_from(State.FETCHING, arrays=job.request.sha256)
        return await carried_out(self.means, self.journal, order, job)

    async def _conclude(self, result: Result) -> None:
        def keep() -> tuple[str, str]:
            blobs = self.means.blobs
            return kept(blobs, result.reply), kept(blobs, result.carry) if result.carry else ""

        reply, carry = await self.means.offload(keep)
        size, pace = len(result.reply), result.pace or self.journal.pace
        what = {"reply": reply, "reply_bytes": size, "carry": carry, "examples": result.examples}
        await self._move(Event.OK, {"pace": pace}, **what)
        done = "trained" if self._task().phase == TRAIN else "evaluated"
        self._tell(f"federated.{done}", "", result.words)

    async def _decline(self, order: Order, error: FlowerError, code: str, detail: str) -> None:
        reply = error_reply(message_of(order), error, code, detail)
        sha256 = await self.means.offload(partial(kept, self.means.blobs, reply))
        await self._move(
            Event.DECLINE, reply=sha256, reply_bytes=len(reply), code=code, detail=detail[:500]
        )
        self._tell("federated.declined", code, detail)

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns, which is ended when there is only time left for sending.

        Raises:
            TooLate: it was.
        """
        doing = asyncio.ensure_future(work)
        try:
            while not doing.done():
                left = self._left()
                if left <= 0:
                    raise TooLate("the time for it is up")
                asleep = asyncio.ensure_future(self.clock.sleep(left))
                await asyncio.wait({doing, asleep}, return_when=asyncio.FIRST_COMPLETED)
                asleep.cancel()
            return doing.result()
        finally:
            await _ended(doing)

    def _left(self) -> float:
        """Seconds for the work itself."""
        return self._deadline - self.clock.monotonic()

    # --- Sending it ------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Returns when the controller has all of the reply, or does not want it."""
        task = self._task()
        try:
            reply = await self.means.offload(partial(self.means.blobs.read, task.reply))
        except StoreError as error:
            log.error("federated.reply-lost %s detail=%s", as_it_stands(task), error.detail)
            await self._refused("reply-lost", "the device's disk has lost the reply")
            return
        receipt = await self._tries.send(self.means, task, reply)
        match receipt.verdict:
            case Unwanted(code=code, words=words):
                await self._refused(code, words, receipt.rest_seconds)
            case Taken():
                await self._settled(Event.OK, receipt.rest_seconds)

    async def _refused(self, code: str, words: str, rest_seconds: float = 0.0) -> None:
        await self._settled(Event.REFUSE, rest_seconds, code=code, detail=words[:500])
        self._tell("federated.refused", code, words)

    async def _settled(self, event: Event, rest_seconds: float, **what: Any) -> None:
        rest, now = self.journal.rest, self._now()
        if rest_seconds > 0:
            seconds = min(rest_seconds, MOST_REST_SECONDS)
            rest = Rest(now, now + seconds * (1 + JITTER * self.rng.random()))
        await self._move(event, {"rest": rest}, **what)
        await self._collect()
        self.on_rest()

    # --- Writing it down -------------------------------------------------------------------------

    async def _move_from(self, state: State, **what: Any) -> None:
        """Goes on, unless that was done before something failed."""
        if self._task().state is state:
            await self._move(Event.OK, **what)

    async def _move(
        self, event: Event, beside: Mapping[str, Any] = MappingProxyType({}), **what: Any
    ) -> None:
        """Makes the event durable, with what the task says from then on, and what stands beside it."""
        before = self.journal.task
        if before is None:
            return
        journal = replace(self.journal, task=replace(before, **what), **beside)
        await self._save(moved(journal, event, self._now()))
        if self._task().state is not before.state:
            log.info("federated.%s %s", event, as_it_stands(self._task()))

    async def _save(self, journal: Journal) -> None:
        """Carried to its end even if the work is ended: memory and disk say the same."""

        async def write() -> None:
            await self.means.offload(partial(self.store.journal.save, journal))
            self.journal = journal

        await finished(write())

    async def _collect(self) -> None:
        try:
            await self.means.offload(partial(self.means.blobs.keep_only, set(self.journal.blobs())))
        except AgentError as error:
            log.warning("federated.not-collected code=%s detail=%s", error.code, error.detail)

    def _task(self) -> Task:
        task = self.journal.task
        if task is None:
            raise RuntimeError("there is no task")
        return task

    def _tell(self, name: str, code: str, detail: str) -> None:
        self.on_happened(Happened(name, self._task(), code, detail))

    def _now(self) -> float:
        """Unix seconds."""
        return self.clock.now().timestamp()


async def _ended(work: "asyncio.Future[Any]") -> None:
    """Returns when it has ended, by itself or because it was cancelled here."""
    work.cancel()
    await asyncio.wait({work})
