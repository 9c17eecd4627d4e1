"""Keeps one link up for ever: dials, backs off, runs a callback for every command."""

import asyncio
import concurrent.futures
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from agent.clock import Clock
from agent.errors import AgentError, Refused, TransportError
from agent.transport.backoff import Backoff
from agent.transport.link import Dialer, Link

log = logging.getLogger(__name__)

OnCommand = Callable[[bytes], Awaitable[None]]
OnUp = Callable[[Link], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How to wait between attempts, in seconds.

    Attributes:
        unanswered: when nobody answered.
        refused: when the controller does not want this device: a person must act first.
        stable_after: a link that lived so long starts the schedules afresh.
    """

    unanswered: Backoff = field(default_factory=lambda: Backoff(base=1.0, cap=60.0))
    refused: Backoff = field(default_factory=lambda: Backoff(base=60.0, cap=900.0))
    stable_after: float = 60.0


class Connection:
    """The agent's one connection; ``run`` keeps it up, everybody else asks it for its link."""

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        rng: random.Random,
        on_command: OnCommand,
        on_up: OnUp,
        patience: Patience | None = None,
    ) -> None:
        """``on_up`` runs at every new link, before any command; if it fails, the link is dropped."""
        self._dialer = dialer
        self._clock = clock
        self._rng = rng
        self._on_command = on_command
        self._on_up = on_up
        self._patience = patience or Patience()
        self._link: Link | None = None
        self._change = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_error: AgentError | None = None

    @property
    def is_up(self) -> bool:
        """Whether there is a live link."""
        return self._link is not None

    @property
    def last_error(self) -> AgentError | None:
        """Why there is no link; None while there is one, and before the first attempt."""
        return self._last_error

    async def link(self) -> Link:
        """The live link, as soon as there is one."""
        while self._link is None:
            await self._change.wait()
        return self._link

    async def call(self, method: str, request: bytes, within: float = 30.0) -> bytes:
        """The answer, over whatever link is live or comes up ``within`` so many seconds.

        Raises:
            TransportError: no answer, or no link.
            Refused: the controller answered no.
        """
        try:
            async with asyncio.timeout(within):
                link = await self.link()
                return await link.call(method, request)
        except TimeoutError as error:
            raise TransportError(f"no answer within {within:g} s") from error

    def call_blocking(self, method: str, request: bytes, within: float = 30.0) -> bytes:
        """As ``call``, for a thread that is not the event loop's.

        Raises:
            TransportError: also when ``run`` has not begun.
        """
        if self._loop is None or self._loop.is_closed():
            raise TransportError("the connection has not been started")
        future = asyncio.run_coroutine_threadsafe(self.call(method, request, within), self._loop)
        try:
            # The coroutine ends by itself in time; the margin is for a loop that is gone or stuck.
            return future.result(within + 5.0)
        except (concurrent.futures.CancelledError, concurrent.futures.TimeoutError) as error:
            future.cancel()
            raise TransportError("the connection has ended") from error

    async def run(self) -> NoReturn:
        """Never returns."""
        self._loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            lived, error = await self._live_once()
            attempt = 0 if lived >= self._patience.stable_after else attempt
            wait = self._schedule(error).delay(attempt, self._rng)
            self._note(error, wait)
            attempt += 1
            await self._clock.sleep(wait)

    async def _live_once(self) -> tuple[float, AgentError]:
        """One link from dial to end: how many seconds it lived, and why it ended."""
        started = None
        try:
            link = await self._dialer.dial()
            started = self._clock.monotonic()
            try:
                await self._serve(link)
            finally:
                self._set(None)
                with contextlib.suppress(AgentError):
                    await link.close()
        except AgentError as error:
            reason = error
        except Exception as error:
            log.exception("connection.broke")
            reason = TransportError(f"the connection broke: {type(error).__name__}")
        lived = 0.0 if started is None else self._clock.monotonic() - started
        return lived, reason

    async def _serve(self, link: Link) -> NoReturn:
        await self._on_up(link)
        self._last_error = None
        self._set(link)
        log.info("connection.up")
        async for command in link.commands():
            try:
                await self._on_command(command)
            except Exception:
                log.exception("connection.command-failed bytes=%d", len(command))
        raise TransportError("the link ended")

    def _set(self, link: Link | None) -> None:
        self._link = link
        self._change.set()
        self._change.clear()

    def _schedule(self, error: AgentError) -> Backoff:
        return self._patience.refused if isinstance(error, Refused) else self._patience.unanswered

    def _note(self, error: AgentError, wait: float) -> None:
        same = self._last_error is not None and self._last_error.code == error.code
        self._last_error = error
        level = logging.DEBUG if same else logging.WARNING
        if isinstance(error, Refused):
            level = logging.ERROR
        log.log(
            level,
            "connection.down code=%s next-attempt=%.1fs: %s. %s",
            error.code,
            wait,
            error.detail.removesuffix("."),
            error.remedy,
        )
