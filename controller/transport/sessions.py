"""The one book of live links, over every transport: a ``Courier``.

A device has at most one link, the newest, whatever path it takes. So a device that moves from one
transport to another arrives before it leaves, and its departure is not told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol
from weakref import WeakValueDictionary

from controller.errors import ControllerError, DeviceOffline
from controller.transport.courier import Endpoint

log = logging.getLogger(__name__)

Cut = Callable[[str], None]
"""(device): ends whatever a transport does for the device."""
Post = Callable[[str, bytes], Awaitable[None]]
"""(device, command): leaves a command where the device finds it, link or not."""


class Session(Protocol):
    """A device's link, as its transport sees it."""

    @property
    def device(self) -> str:
        """Whose it is."""
        ...

    @property
    def via(self) -> str:
        """The transport, for people: "grpc", "mqtt"."""
        ...

    @property
    def certificate(self) -> str:
        """Serial of the certificate with which it was made, hex."""
        ...

    def send(self, command: bytes) -> None:
        """Queues a serialised ``muster.v1.Command``; a newer one of a kind replaces an older."""
        ...

    def end(self) -> None:
        """Cuts the link. May be called twice, and when it has ended by itself."""
        ...


class Sessions:
    """Who is here, by which link; tells the endpoint who comes and who goes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._live: dict[str, Session] = {}
        self._cuts: list[Cut] = []
        self._posts: list[Post] = []
        self._notices: set[asyncio.Task[None]] = set()
        # Arrivals and departures of one device are told one after the other.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def serve(self, cut: Cut, post: Post | None = None) -> None:
        """Adds a transport: what it does for a device that is cut, and where it leaves commands."""
        self._cuts.append(cut)
        if post is not None:
            self._posts.append(post)

    async def arrive(self, session: Session) -> None:
        """The link takes the place of an older one; returns when the endpoint knows.

        Whoever calls it calls ``leave`` in the end, also if this raises.

        Raises:
            ControllerError: the endpoint could not take it.
        """
        turn = self._turn(session.device)
        older = self._live.get(session.device)
        self._live[session.device] = session
        if older is not None:
            log.info("session.replaced device=%s via=%s", session.device, older.via)
            older.end()
        async with turn:
            await self._endpoint.connected(session.device)
        log.info(
            "session.up device=%s certificate=%s via=%s",
            session.device,
            session.certificate,
            session.via,
        )

    def leave(self, session: Session) -> None:
        """Tells that the device is gone, unless a newer link has taken this one's place."""
        if self._live.get(session.device) is session:
            del self._live[session.device]
            notice = asyncio.create_task(self._tell_departure(session))
            self._notices.add(notice)
            notice.add_done_callback(self._notices.discard)

    def is_live(self, session: Session) -> bool:
        """Whether this is the device's link."""
        return self._live.get(session.device) is session

    async def send(self, device: str, command: bytes) -> None:
        """Queues the command for the device's link, and leaves it where it may be found without."""
        for post in self._posts:
            await post(device, command)
        session = self._live.get(device)
        if session is None:
            raise DeviceOffline(f"device {device!r} has no live link to this controller")
        session.send(command)

    def has(self, device: str) -> bool:
        """Whether the device has a live link. From any thread."""
        return device in self._live

    def connected(self) -> frozenset[str]:
        """Devices with a live link."""
        return frozenset(self._live)

    async def disconnect(self, device: str) -> None:
        """Ends the device's link and whatever any transport does for it."""
        session = self._live.get(device)
        if session is not None:
            self.leave(session)
            session.end()
        for cut in self._cuts:
            cut(device)

    async def settle(self) -> None:
        """Returns when every departure has been told."""
        while self._notices:
            await asyncio.wait(self._notices)

    async def _tell_departure(self, session: Session) -> None:
        async with self._turn(session.device):
            if session.device in self._live:
                return  # it came back in the meantime, and its arrival was or will be told
            log.info("session.down device=%s via=%s", session.device, session.via)
            try:
                await self._endpoint.disconnected(session.device)
            except ControllerError as error:
                log.warning("session.departure-lost device=%s: %s", session.device, error.detail)

    def _turn(self, device: str) -> asyncio.Lock:
        return self._turns.setdefault(device, asyncio.Lock())
