"""Carries one task out in the time that it has, and tries again what fails for the want of a link."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from agent.clock import Clock
from agent.errors import AgentError, Refused, StoreError, TransportError
from agent.federated.errors import TooLate
from agent.federated.ledger.actions import Ledger, as_it_stands
from agent.federated.machine import Event, State
from agent.federated.order import Order, message_of
from agent.federated.record import TRAIN, Rest, Task
from agent.federated.reply import FlowerError, error_reply
from agent.federated.task.actions import (
    Job,
    Means,
    Result,
    bring,
    carried_out,
    examine,
    kept,
    look_again,
)
from agent.federated.task.declining import flower_error
from agent.federated.task.pieces import GoOn, Later, Taken, Unwanted, meant, piece_of
from agent.transport.backoff import Backoff
from agent.waiting import sleep_unless
from protos.v1 import federated_pb2

log = logging.getLogger(__name__)

MOST_SENDING_SECONDS: Final = 86_400.0
"""A reply that nobody has taken for so long is dropped."""

MOST_REST_SECONDS: Final = 30 * 86_400.0
"""No controller sends a device to sleep for longer."""

MOST_PATIENCE_SECONDS: Final = 600.0
"""No controller has a reply wait for longer before it is sent again."""

LOOK_SECONDS: Final = 10.0
"""So often it looks whether it may go on."""

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


@dataclass(frozen=True, slots=True)
class Receipt:
    """How the sending of a reply has ended.

    Attributes:
        verdict: whether the controller has all of it.
        rest_seconds: for which the device shall take no other task.
    """

    verdict: Taken | Unwanted
    rest_seconds: float = 0.0


@dataclass(eq=False)
class Tries:
    """Waits between attempts; a new link ends any wait."""

    clock: Clock
    rng: random.Random
    backoff: Backoff
    _up: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def link_up(self) -> None:
        """A new link is there: what failed for the want of one is tried again at once."""
        self._up.set()

    async def bring(self, means: Means, job: Job) -> None:
        """Returns when the job's parameters are here.

        Raises:
            ParametersLost, DiskFull: they can't come.
        """
        attempt = 0
        while True:
            self._up.clear()
            try:
                await bring(means, job)
                return
            except TransportError as error:
                log.info("federated.waits attempt=%d detail=%s", attempt, error.detail)
            await self._pause(attempt)
            attempt += 1

    async def send(self, means: Means, task: Task, reply: bytes) -> Receipt:
        """Sends the reply, from where the controller says that it stands."""
        offset = attempt = 0
        began = self.clock.monotonic()
        while True:
            self._up.clear()
            step, seconds = await _sent(means, piece_of(task, reply, offset))
            if isinstance(step, Taken | Unwanted):
                return Receipt(step, seconds)
            if isinstance(step, GoOn):
                offset = step.offset
                if step.forward:
                    attempt = 0
                    continue
            if self.clock.monotonic() - began > MOST_SENDING_SECONDS:
                return Receipt(Unwanted("not-taken", "nobody has taken the reply for a day"))
            await self._pause(attempt, step.seconds if isinstance(step, Later) else 0.0)
            attempt += 1

    async def _pause(self, attempt: int, asked: float = 0.0) -> None:
        """Returns later, as the controller has ``asked`` or as it is usual; or with a new link."""
        longer = (1 + JITTER * self.rng.random()) * min(asked, MOST_PATIENCE_SECONDS)
        pause = max(longer, self.backoff.delay(attempt, self.rng))
        await sleep_unless(self.clock, pause, self._up)


async def _sent(
    means: Means, piece: federated_pb2.ReplyPiece
) -> tuple[GoOn | Later | Taken | Unwanted, float]:
    try:
        receipt = await means.uplink.reply(piece)
    except TransportError as error:
        log.info("federated.unsent detail=%s", error.detail)
        return GoOn(piece.offset, forward=False), 0.0
    except Refused as error:
        if error.retry_after_ms > 0:
            return Later(error.retry_after_ms / 1000), 0.0
        return Unwanted(error.code, error.detail), 0.0
    return meant(receipt, piece), max(0.0, receipt.next_after_ms / 1000)


@dataclass(eq=False)
class TaskWork:
    """The work of the task in hand, from when it is told to when nothing is owed.

    Attributes:
        deadline: until when the work itself must be done; monotonic seconds. It may be moved.
        on_happened: called after something is durable.
        on_settled: called when nothing is owed for a task any more.
    """

    ledger: Ledger
    means: Means
    tries: Tries
    clock: Clock
    rng: random.Random
    on_happened: Callable[[Happened], None]
    on_settled: Callable[[], None]
    deadline: float = field(init=False, default=0.0)
    _unwritten: tuple[str, Result] | None = field(init=False, default=None)

    async def reply_to(self, order: Order) -> None:
        """Returns when a reply is durable: what came of the task, or why nothing did.

        Raises:
            DiskFull, StoreError: it can't be made durable.
        """
        if self._unwritten is None or self._unwritten[0] != order.id:
            try:
                self._unwritten = order.id, await self._in_time(self._attempt(order))
            except AgentError as error:
                await self._decline(order, flower_error(error), error.code, error.detail)
                return
            except Exception:
                log.exception("federated.broke task=%s", order.id)
                told = "see the device's log"
                await self._decline(order, FlowerError.APP_RAISED, "internal", told)
                return
        await self._conclude(self._unwritten[1])
        self._unwritten = None  # until then, a disk that is full costs no other training

    async def send(self) -> None:
        """Returns when the controller has all of the reply, or does not want it."""
        task = self.ledger.task
        try:
            reply = await self.means.offload(partial(self.means.blobs.read, task.reply))
        except StoreError as error:
            log.error("federated.reply-lost %s detail=%s", as_it_stands(task), error.detail)
            lost = Unwanted("reply-lost", "the device's disk has lost the reply")
            await self._settle(Receipt(lost))
            return
        await self._settle(await self.tries.send(self.means, task, reply))

    async def _attempt(self, order: Order) -> Result:
        ledger, left = self.ledger, self.deadline - self.clock.monotonic()
        job = await examine(self.means, ledger.journal, order, left)
        await ledger.move_from(State.TOLD)
        await self.tries.bring(self.means, job)
        await ledger.move_from(State.FETCHING, arrays=job.request.sha256)
        return await carried_out(self.means, ledger.journal, order, job)

    async def _conclude(self, result: Result) -> None:
        def keep() -> tuple[str, str]:
            blobs = self.means.blobs
            return kept(blobs, result.reply), kept(blobs, result.carry) if result.carry else ""

        reply, carry = await self.means.offload(keep)
        what = {"reply": reply, "reply_bytes": len(result.reply), "carry": carry}
        beside = {"pace": result.pace, "paced": self.ledger.task.model} if result.pace else {}
        await self.ledger.move(Event.OK, beside, examples=result.examples, **what)
        done = "trained" if self.ledger.task.phase == TRAIN else "evaluated"
        self._tell(f"federated.{done}", "", result.words)

    async def _decline(self, order: Order, error: FlowerError, code: str, detail: str) -> None:
        reply = error_reply(message_of(order), error, code, detail)
        sha256 = await self.means.offload(partial(kept, self.means.blobs, reply))
        size, said = len(reply), detail[:500]
        # One slow training does not keep the device out for ever: what it took is believed less.
        pace = self.ledger.journal.pace / (2 if code == TooLate.code else 1)
        await self.ledger.move(
            Event.DECLINE, {"pace": pace}, reply=sha256, reply_bytes=size, code=code, detail=said
        )
        self._tell("federated.declined", code, detail)

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns, which is ended when there is only time left for sending.

        Raises:
            TooLate: it was; NotEligible: it was ended before, for the device may not go on.
        """
        doing = asyncio.ensure_future(work)
        try:
            while not doing.done():
                left = self.deadline - self.clock.monotonic()
                if left <= 0:
                    raise TooLate("the time for it is up")
                await first_of(doing, self.clock.sleep(min(left, LOOK_SECONDS)))
                if not doing.done():
                    await look_again(self.means, self.ledger.journal)
            return doing.result()
        finally:
            await ended(doing)

    async def _settle(self, receipt: Receipt) -> None:
        rest, now = self.ledger.journal.rest, self.ledger.now()
        if receipt.rest_seconds > 0:
            seconds = min(receipt.rest_seconds, MOST_REST_SECONDS)
            rest = Rest(now, now + seconds * (1 + JITTER * self.rng.random()))
        match receipt.verdict:
            case Taken():
                await self.ledger.move(Event.OK, {"rest": rest})
            case Unwanted(code=code, words=words):
                beside = {"rest": rest}
                await self.ledger.move(Event.REFUSE, beside, code=code, detail=words[:500])
                self._tell("federated.refused", code, words)
        await self.ledger.collect()
        self.on_settled()

    def _tell(self, name: str, code: str, detail: str) -> None:
        self.on_happened(Happened(name, self.ledger.task, code, detail))


async def first_of(work: "asyncio.Future[Any]", other: Coroutine[Any, Any, Any]) -> None:
    """Returns when one of them is over; ``other`` is ended then, ``work`` goes on."""
    beside = asyncio.ensure_future(other)
    try:
        await asyncio.wait({work, beside}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(beside)


async def ended(work: "asyncio.Future[Any]") -> None:
    """Returns when it has ended, by itself or because it is cancelled here."""
    work.cancel()
    await asyncio.wait({work})
