"""Tells the controller whether the device would train now: at each link, and when that has changed."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NoReturn

from agent.clock import Clock
from agent.errors import AgentError, Refused, TransportError
from agent.federated.ledger.actions import Offload
from agent.federated.readiness.message import Heard, Told, is_news, message
from agent.waiting import sleep_unless
from protos.v1 import federated_pb2

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
APART_SECONDS: Final = 1.0
"""However often things change, it is told no more often than that."""

MOST_PATIENCE_SECONDS: Final = 600.0
"""No controller keeps it from telling for longer."""

JITTER: Final = 0.2
"""A fleet that was switched on together does not look together for ever."""

Publish = Callable[[federated_pb2.Readiness], Awaitable[None]]


@dataclass(eq=False)
class ReadinessLoop:
    """Looks how things are, and says so when it is news.

    Attributes:
        look: how things are. Called off the event loop.
        publish: ``agent.uplink.Uplink.publish_readiness``.
        note: leaves it where ``muster-agent status`` finds it. Called off the event loop.
    """

    look: Callable[[], tuple[Told, ...]]
    publish: Publish
    note: Callable[[tuple[Told, ...]], None]
    clock: Clock
    rng: random.Random
    offload: Offload = asyncio.to_thread
    _heard: Heard | None = field(init=False, default=None)
    _noted: tuple[Told, ...] | None = field(init=False, default=None)
    _awake: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _linked: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def link_up(self) -> None:
        """A new link is there: whoever is at its other end may have heard nothing."""
        self._heard = None
        self._awake.set()
        self._linked.set()

    def wake(self) -> None:
        """Something has changed that may decide it."""
        self._awake.set()

    async def run(self) -> NoReturn:
        """Never returns."""
        while True:
            self._awake.clear()
            self._linked.clear()
            patience = 0.0
            try:
                await self._tell()
            except TransportError as error:
                log.debug("readiness.untold detail=%s", error.detail)
            except Refused as error:
                patience = min(error.retry_after_ms / 1000, MOST_PATIENCE_SECONDS)
                log.warning("readiness.refused code=%s detail=%s", error.code, error.detail)
            except AgentError as error:
                log.warning("readiness.unknown code=%s detail=%s", error.code, error.detail)
            except Exception:
                log.exception("readiness.broke")
            await self.clock.sleep(APART_SECONDS)
            if patience > APART_SECONDS:  # what one controller asks for does not bind the next one
                await sleep_unless(self.clock, patience - APART_SECONDS, self._linked)
            spread = self.rng.uniform(1 - JITTER, 1 + JITTER)
            await sleep_unless(self.clock, LOOK_SECONDS * spread, self._awake)

    async def _tell(self) -> None:
        models = await self.offload(self.look)
        if models != self._noted:
            await self.offload(partial(self.note, models))
            self._noted = models
        now = self.clock.monotonic()
        if not is_news(self._heard, models, now):
            return
        heard = self._heard = Heard(models, now)  # a link that comes up in the meantime undoes it
        try:
            await self.publish(message(models))
        except AgentError:
            if self._heard is heard:
                self._heard = None
            raise
        for one in models:
            log.info(
                "readiness.told model=%s version=%d eligible=%s code=%s examples=%d held-out=%d",
                one.model, one.version, not one.code, one.code, one.examples, one.held_out,
            )  # fmt: skip
