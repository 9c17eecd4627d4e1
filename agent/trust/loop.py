"""Refreshes the trusted metadata, and tries a directive again that could not be taken at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from agent.clock import Clock
from agent.errors import AgentError, StaleDirective, Temporary, TransportError
from agent.transport.backoff import Backoff
from agent.trust.actions import ImageTrust
from agent.trust.directive import is_for_good
from agent.trust.questions import Fetch
from agent.waiting import sleep_unless
from protos.documents import Directive

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 300.0
JITTER: Final = 0.2  # so that a fleet that was started together does not ask together
FIRST_RETRY_SECONDS: Final = 2.0
RETRY: Final = Backoff(base=1.0, cap=60.0)  # of a directive, and of limits that could not be told

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
        self._reachable = True

    def trigger(self) -> None:
        """Asks for a refresh now."""
        self._asked.set()

    async def run(self) -> None:
        """Never returns; ends when it is cancelled."""
        told = None
        untold = 0  # how often in a row
        while True:
            self._asked.clear()
            pause = await self._refresh()
            try:
                limits = await asyncio.to_thread(self._trust.limits)
                if limits != told:
                    await self._on_limits()
                    told = limits
                untold = 0
            except Exception:
                log.exception("trust.limits-failed")
                pause = min(pause, RETRY.delay(untold, self._rng))  # what is recalled may run still
                untold += 1
            await sleep_unless(self._clock, pause, self._asked)

    async def _refresh(self) -> float:
        """Seconds until the next try."""
        try:
            refreshed = await self._trust.refresh(self._fetch)
        except TransportError as error:
            level = logging.INFO if self._reachable else logging.DEBUG  # it may last for days
            self._reachable = False
            log.log(level, "trust.unreachable detail=%s", error)
            return self._sooner()
        except AgentError as error:
            log.warning("trust.refused code=%s detail=%s", error.code, error)
        except Exception:
            log.exception("trust.failed")
        else:
            self._reachable = True
            for model, problem in refreshed.problems.items():
                log.warning(
                    "trust.refused model=%s code=%s detail=%s", model, problem.code, problem
                )
            if refreshed.mirrored:  # the controller may know of newer
                return self._sooner()
        self._failures = 0
        return self._interval * self._rng.uniform(1 - JITTER, 1 + JITTER)

    def _sooner(self) -> float:
        self._failures += 1
        most = min(self._interval, FIRST_RETRY_SECONDS * 2 ** min(self._failures, 16))
        return self._rng.uniform(0, most)


class DirectiveLoop:
    """Takes the directives that come; one that can't be taken now is tried until it is, or never can.

    Only the newest that could not be taken is kept: a directive says all that shall run, and the
    controller sends it again at every link.

    Args:
        on_accepted: told every directive that the device acts on from now.
        on_refused: told every error that is for a person to see: every refusal, and what is wrong
            with the device itself.
    """

    def __init__(
        self,
        trust: ImageTrust,
        fetch: Fetch,
        on_accepted: Callable[[Directive], None],
        on_refused: Callable[[AgentError], None],
        clock: Clock,
        rng: Random,
        backoff: Backoff = RETRY,
    ) -> None:
        self._trust = trust
        self._fetch = fetch
        self._on_accepted = on_accepted
        self._on_refused = on_refused
        self._clock = clock
        self._rng = rng
        self._backoff = backoff
        self._later = b""
        self._offered = b""
        self._newest = 0  # the last generation that the log has told of
        self._kept = asyncio.Event()
        self._turn = asyncio.Lock()

    async def take(self, envelope: bytes) -> None:
        """Returns when the directive is accepted, refused, or kept for later."""
        async with self._turn:
            error = await self._accept(envelope)
            if error is None:
                return
            if is_for_good(error):
                self._refuse(error)
                return
            log.warning("directive.later code=%s detail=%s", error.code, error.detail)
            if not isinstance(error, Temporary):
                self._on_refused(error)
            self._later = envelope
            self._kept.set()

    def offer(self, envelope: bytes) -> None:
        """As ``take``, soon: for who must not wait. A newer offer takes the place of an older one."""
        self._offered = envelope
        self._kept.set()

    async def run(self) -> None:
        """Never returns; ends when it is cancelled."""
        attempt = 0
        while True:
            if not self._later and not self._offered:
                attempt = 0
                self._kept.clear()
                await self._kept.wait()
            if self._offered:
                await self._take_offered()
                continue
            await self._clock.sleep(self._backoff.delay(attempt, self._rng))
            attempt += 1
            try:
                async with self._turn:
                    await self._again()
            except Exception:
                log.exception("directive.failed")

    async def _take_offered(self) -> None:
        envelope, self._offered = self._offered, b""
        try:
            await self.take(envelope)
        except Exception:
            log.exception("directive.failed")

    async def _again(self) -> None:
        error = await self._accept(self._later)
        if error is not None and not is_for_good(error):
            log.info("directive.later code=%s detail=%s", error.code, error.detail)
            return
        self._later = b""
        if isinstance(error, StaleDirective):  # a newer one was taken meanwhile
            log.info("directive.superseded detail=%s", error.detail)
        elif error is not None:
            self._refuse(error)

    async def _accept(self, envelope: bytes) -> AgentError | None:
        try:
            directive = await self._trust.accept_directive(envelope, self._fetch)
        except AgentError as error:
            return error
        # It comes again with every link, and from the broker at every dial.
        level = logging.DEBUG if directive.generation == self._newest else logging.INFO
        self._newest = directive.generation
        log.log(level, "directive.accepted generation=%d", directive.generation)
        self._on_accepted(directive)
        return None

    def _refuse(self, error: AgentError) -> None:
        log.error("directive.refused code=%s detail=%s", error.code, error.detail)
        self._on_refused(error)
