"""Keeps one link up for ever: dials, backs off, moves to better routes, runs a callback for every
command. Which route, and when, is decided in ``route.py``.
"""  # noqa: D205 - what it does does not fit one line

import asyncio
import concurrent.futures
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from agent.clock import Clock
from agent.errors import AgentError, Refused, TransportError
from agent.transport import route as routing
from agent.transport.link import Link
from agent.transport.route import Patience, Route
from agent.waiting import sleep_unless

TOLD_CAUSES: Final = 8
"""So many causes of one outage are told as warnings: some name what changes with every attempt."""

log = logging.getLogger(__name__)

OnCommand = Callable[[bytes], Awaitable[None]]
OnUp = Callable[[Link], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Live:
    """A link that is up, by the rank of its route, and since when.

    Attributes:
        ended: no command will come of it any more.
        reasons: why it ended, once it has.
    """

    rank: int
    link: Link
    since: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[AgentError] = field(default_factory=list)


class Connection:
    """The agent's one connection; ``run`` keeps it up, everybody else asks it for its link."""

    def __init__(
        self,
        routes: Sequence[Route],
        clock: Clock,
        rng: random.Random,
        on_command: OnCommand,
        on_up: OnUp,
        patience: Patience | None = None,
    ) -> None:
        """A connection over ``routes``, the preferred one first, at least one.

        ``on_up`` runs at every new link, before any command of it; if it fails, the link is dropped.
        For a moment in which it moves to a better route, it takes commands of two links.
        """
        self._names = [route.name for route in routes]
        self._search = _Search(routes, clock, rng, on_up, patience or Patience())
        self._clock = clock
        self._on_command = on_command
        self._live: _Live | None = None
        self._change = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_error: AgentError | None = None
        self._told: set[str] = set()

    @property
    def via(self) -> str:
        """The name of the route of the live link; empty if there is none."""
        return "" if self._live is None else self._names[self._live.rank]

    @property
    def is_up(self) -> bool:
        """Whether there is a live link."""
        return self._live is not None

    @property
    def last_error(self) -> AgentError | None:
        """Why there is no link; None while there is one, and before the first attempt."""
        return self._last_error

    async def link(self) -> Link:
        """The live link, as soon as there is one."""
        while self._live is None:
            await self._change.wait()
        return self._live.link

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
        async with asyncio.TaskGroup() as links:
            while True:
                error = await self._live_once(links)
                wait = self._search.pause(error)
                self._note(error, wait)
                await self._clock.sleep(wait)

    async def _live_once(self, links: asyncio.TaskGroup) -> AgentError:
        """From one round of dialling until there is no link: why there is none."""
        found = await self._search.first()
        if isinstance(found, AgentError):
            return found
        self._take(found, links)
        log.info("connection.up via=%s", self.via)
        while (better := await self._successor(found)) is not None:
            # Make before break: the older one ends only now, and what it has brought is still taken.
            self._take(better, links)
            log.info("connection.moved from=%s to=%s", self._names[found.rank], self.via)
            self._search.left(found)
            links.create_task(_close(found.link))
            found = better
        self._search.lost(found)
        return found.reasons[0]

    def _take(self, live: _Live, links: asyncio.TaskGroup) -> None:
        """Everybody who asks for the link gets this one, until it ends."""
        self._last_error = None
        self._told.clear()
        self._set(live)
        links.create_task(self._receive(live))

    async def _successor(self, live: _Live) -> _Live | None:
        """The link of a better route that takes its place; None once it has ended without one.

        Who takes a device's newer link may end its older one before the newer one is known to be up
        here. So a look that has begun is carried to its end.
        """
        while not live.ended.is_set():
            wait = self._search.next_look(live)
            if wait is None:
                await live.ended.wait()
                return None
            await sleep_unless(self._clock, wait, live.ended)
            if not live.ended.is_set() and (better := await self._search.better(live)) is not None:
                return better
        return None

    async def _receive(self, live: _Live) -> None:
        """Runs the callback for every command, until the link has ended."""
        try:
            async for command in live.link.commands():
                try:
                    await self._on_command(command)
                except Exception:
                    log.exception("connection.command-failed bytes=%d", len(command))
            reason: AgentError = TransportError("the link ended")
        except AgentError as error:
            reason = error
        except Exception as error:
            log.exception("connection.broke")
            reason = _broken(error)
        finally:
            if self._live is live:
                self._set(None)
            await _close(live.link)
        live.reasons.append(reason)
        live.ended.set()

    def _set(self, live: _Live | None) -> None:
        self._live = live
        self._change.set()
        self._change.clear()

    def _note(self, error: AgentError, wait: float) -> None:
        """Each cause is told once until there is a link again: what fails next may be another thing."""
        self._last_error = error
        level = logging.DEBUG if error.detail in self._told else logging.WARNING
        if len(self._told) < TOLD_CAUSES:
            self._told.add(error.detail)
        if isinstance(error, Refused):
            level = logging.ERROR
        log.log(
            level,
            "connection.down code=%s next-attempt=%.1fs: %s %s",
            error.code,
            wait,
            error.detail if error.detail.endswith(("?", ".")) else f"{error.detail}.",
            error.remedy,
        )


class _Search:
    """Finds links, and keeps what is known of the routes."""

    def __init__(
        self,
        routes: Sequence[Route],
        clock: Clock,
        rng: random.Random,
        on_up: OnUp,
        patience: Patience,
    ) -> None:
        self._routes = routes
        self._clock = clock
        self._rng = rng
        self._on_up = on_up
        self._patience = patience
        self._known = routing.nothing_known(len(routes))

    async def first(self) -> _Live | AgentError:
        """A link over the first route that answers in one round; or why there is none."""
        failures: list[tuple[str, AgentError]] = []
        for rank in routing.order(self._known, self._patience, self._clock.monotonic()):
            reached = await self._reach(rank)
            if isinstance(reached, _Live):
                if failures:
                    log.info("connection.other-route because=%s", routing.why(failures).detail)
                return reached
            failures.append((self._routes[rank].name, reached))
            if routing.ends_round(reached):
                break
        return routing.why(failures)

    async def better(self, live: _Live) -> _Live | None:
        """A link over a better route than that one's, if one answers."""
        self._known = routing.after_look(self._known)
        for rank in range(live.rank):
            reached = await self._reach(rank)
            if isinstance(reached, _Live):
                return reached
            name = self._routes[rank].name
            log.info("connection.not-better via=%s code=%s: %s", name, reached.code, reached.detail)
            if routing.ends_round(reached):
                break
        return None

    def next_look(self, live: _Live) -> float | None:
        """Seconds until the next ``better``; None if there is nothing better."""
        return routing.next_look(self._known, live.rank, self._patience, self._rng)

    def pause(self, error: AgentError) -> float:
        """Seconds until the next ``first``, after this error."""
        self._known, wait = routing.pause(self._known, error, self._patience, self._rng)
        return wait

    def left(self, live: _Live) -> None:
        """The link was left for a better one."""
        lived = self._clock.monotonic() - live.since
        self._known = routing.after_link(self._known, live.rank, lived, self._patience)

    def lost(self, live: _Live) -> None:
        """The link has ended by itself."""
        now = self._clock.monotonic()
        lived = now - live.since
        self._known = routing.after_loss(self._known, live.rank, lived, self._patience, now)

    async def _reach(self, rank: int) -> _Live | AgentError:
        """A link over that route, greeted; or why there is none."""
        route = self._routes[rank]
        try:
            return await self._greeted(rank, await self._dialled(route))
        except AgentError as error:
            reason = error
        except Exception as error:
            log.exception("connection.broke")
            reason = _broken(error)
        self._known = routing.after_dial(self._known, rank, reason, self._clock.monotonic())
        return reason

    async def _dialled(self, route: Route) -> Link:
        seconds = self._patience.gives_up
        try:
            async with asyncio.timeout(seconds):
                return await route.dialer.dial()
        except TimeoutError as error:
            raise TransportError(f"nobody answered within {seconds:g} s") from error

    async def _greeted(self, rank: int, link: Link) -> _Live:
        live = _Live(rank, link, self._clock.monotonic())
        greeted = False
        try:
            await self._on_up(link)
            greeted = True
        finally:
            if not greeted:
                await _close(link)
        return live


async def _close(link: Link) -> None:
    try:
        await link.close()
    except AgentError as error:
        log.debug("connection.not-closed code=%s: %s", error.code, error.detail)
    except Exception:
        log.exception("connection.not-closed")


def _broken(error: Exception) -> TransportError:
    return TransportError(f"the connection broke: {type(error).__name__}")
