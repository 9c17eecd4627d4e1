"""What is tried again for one task for as long as the link is away: fetching, and sending."""

import asyncio
import logging
import random
from dataclasses import dataclass, field
from typing import Final

from agent.clock import Clock
from agent.errors import Refused, TransportError
from agent.federated.record import Task
from agent.federated.task.actions import Job, Means, bring
from agent.federated.task.pieces import GoOn, Taken, Unwanted, meant, piece_of
from agent.transport.backoff import Backoff
from agent.waiting import sleep_unless

log = logging.getLogger(__name__)

MOST_SENDING_SECONDS: Final = 86_400.0
"""A reply that nobody has taken for so long is dropped."""


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
            piece = piece_of(task, reply, offset)
            seconds = 0.0
            try:
                receipt = await means.uplink.reply(piece)
                step, seconds = meant(receipt, piece), max(0.0, receipt.next_after_ms / 1000)
            except TransportError as error:
                log.info("federated.unsent attempt=%d detail=%s", attempt, error.detail)
                step = GoOn(offset, forward=False)
            except Refused as error:
                step = Unwanted(error.code, error.detail)
            if not isinstance(step, GoOn):
                return Receipt(step, seconds)
            offset = step.offset
            if step.forward:
                attempt = 0
                continue
            if self.clock.monotonic() - began > MOST_SENDING_SECONDS:
                return Receipt(Unwanted("not-taken", "nobody has taken the reply for a day"))
            await self._pause(attempt)
            attempt += 1

    async def _pause(self, attempt: int) -> None:
        await sleep_unless(self.clock, self.backoff.delay(attempt, self.rng), self._up)
