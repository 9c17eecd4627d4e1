"""Refreshes the trusted metadata now and then, and at once when somebody asks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from agent.clock import Clock
from agent.errors import AgentError, TransportError
from agent.trust.actions import ImageTrust
from agent.trust.questions import Fetch
from agent.waiting import sleep_unless

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 300.0
JITTER: Final = 0.2  # so that a fleet that was started together does not ask together
FIRST_RETRY_SECONDS: Final = 2.0

OnLimits = Callable[[], Awaitable[None]]
"""Called when recalls or floors have changed, and once at the start: every slot must be looked at."""


class RefreshLoop:
    """Keeps the metadata fresh for as long as the agent runs."""

    def __init__(
        self,
        trust: ImageTrust,
        fetch: Fetch,
        on_limits: OnLimits,
        clock: Clock,
        rng: Random,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._trust = trust
        self._fetch = fetch
        self._on_limits = on_limits
        self._clock = clock
        self._rng = rng
        self._interval = interval
        self._asked = asyncio.Event()
        self._failures = 0

    def trigger(self) -> None:
        """Asks for a refresh now."""
        self._asked.set()

    async def run(self) -> None:
        """Never returns; ends when it is cancelled."""
        told = None
        while True:
            self._asked.clear()
            pause = await self._refresh()
            try:
                limits = self._trust.limits()
                if limits != told:
                    await self._on_limits()
                    told = limits
            except Exception:
                log.exception("trust.limits-failed")
            await sleep_unless(self._clock, pause, self._asked)

    async def _refresh(self) -> float:
        """Seconds until the next try."""
        try:
            refreshed = await self._trust.refresh(self._fetch)
        except TransportError as error:
            self._failures += 1
            log.info("trust.unreachable detail=%s", error)
            most = min(self._interval, FIRST_RETRY_SECONDS * 2 ** min(self._failures, 16))
            return self._rng.uniform(0, most)
        except AgentError as error:
            log.warning("trust.refused code=%s detail=%s", error.code, error)
        except Exception:
            log.exception("trust.failed")
        else:
            for model, problem in refreshed.problems.items():
                log.warning(
                    "trust.refused model=%s code=%s detail=%s", model, problem.code, problem
                )
        self._failures = 0
        return self._interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
