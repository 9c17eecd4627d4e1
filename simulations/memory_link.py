"""Links and the courier without a network: what tests and simulations use in gRPC's place.

Deterministic: no randomness, no threads, no time. Faults are switches.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import TypeVar

from agent.errors import AgentError, Refused, TransportError
from agent.transport.inbox import Inbox
from agent.transport.link import Contact, Link, Way
from controller.errors import ControllerError, DeviceOffline
from controller.transport.courier import Endpoint
from controller.transport.dispatch import problem
from protos.v1 import enrolment_pb2

Answer = TypeVar("Answer")
AnyRequest = TypeVar("AnyRequest")
AnyReply = TypeVar("AnyReply")


class MemoryNetwork:
    """Joins an endpoint and any number of devices; a ``Courier``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._links: dict[str, MemoryLink] = {}
        self._unreachable: set[str] = set()
        self._refused: dict[str, ControllerError] = {}
        self._departures: set[asyncio.Task[None]] = set()

    def dialer(self, device: str, certificate_serial: str = "1") -> "MemoryDialer":
        """Dials as that device."""
        return MemoryDialer(self, device, certificate_serial)

    def cut(self, device: str) -> None:
        """Breaks the device's link, as a network does: neither side has asked for it."""
        link = self._links.get(device)
        if link is not None:
            link.fail(TransportError("the network was cut"))
            self.leave(link)

    def isolate(self, device: str) -> None:
        """Cuts the device off until ``restore``."""
        self._unreachable.add(device)
        self.cut(device)

    def restore(self, device: str) -> None:
        """Undoes ``isolate`` and ``refuse``."""
        self._unreachable.discard(device)
        self._refused.pop(device, None)

    def refuse(self, device: str, error: ControllerError) -> None:
        """Answers the device's next dials with this error."""
        self._refused[device] = error

    async def connect(self, device: str, certificate_serial: str) -> "MemoryLink":
        """A live link; replaces an older one of the device."""
        if device in self._unreachable:
            raise TransportError("the network is down")
        link = MemoryLink(self, self._endpoint, device)
        try:
            if device in self._refused:
                raise self._refused[device]
            await self._endpoint.admit(device, certificate_serial)
            await self.settle()
            self._replace(device, link)
            await self._endpoint.connected(device)
        except ControllerError as error:
            link.fail(TransportError("the link was refused"))
            self.leave(link)
            raise translated(error) from error
        return link

    def leave(self, link: "MemoryLink") -> None:
        """Notes that a link has ended, and tells the endpoint unless a newer one took its place."""
        if self._links.get(link.device) is link:
            del self._links[link.device]
            departure = asyncio.create_task(self._tell_departure(link.device))
            self._departures.add(departure)
            departure.add_done_callback(self._departures.discard)

    async def settle(self) -> None:
        """Returns when every departure has been told."""
        while self._departures:
            await asyncio.wait(self._departures)

    async def send(self, device: str, command: bytes) -> None:
        """Queues a command; see ``Courier``."""
        link = self._links.get(device)
        if link is None:
            raise DeviceOffline(f"device {device!r} has no live link to this controller")
        link.deliver(command)

    def connected(self) -> frozenset[str]:
        """Devices with a live link."""
        return frozenset(self._links)

    async def disconnect(self, device: str) -> None:
        """Cuts the device's link, and whatever it is being sent."""
        link = self._links.get(device)
        if link is not None:
            link.fail(TransportError("the controller cut the link"))
            self.leave(link)

    def _replace(self, device: str, link: "MemoryLink") -> None:
        older = self._links.get(device)
        self._links[device] = link
        if older is not None:
            older.fail(TransportError("a newer link took this one's place"))

    async def _tell_departure(self, device: str) -> None:
        if device not in self._links:
            await self._endpoint.disconnected(device)


class MemoryDialer:
    """See ``Dialer``."""

    def __init__(self, network: MemoryNetwork, device: str, certificate_serial: str) -> None:
        self._network = network
        self._device = device
        self._serial = certificate_serial

    async def dial(self) -> Link:
        """A link that is up."""
        return await self._network.connect(self._device, self._serial)


class MemoryLink:
    """See ``Link``. Whatever is under way when the link fails, fails with it."""

    def __init__(self, network: MemoryNetwork, endpoint: Endpoint, device: str) -> None:
        self.device = device
        self._network = network
        self._endpoint = endpoint
        self._inbox = Inbox()
        self._running: set[asyncio.Task[object]] = set()

    async def call(self, method: str, request: bytes) -> bytes:
        """The endpoint's answer."""
        return await self._run(self._endpoint.call(self.device, method, request))

    async def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on."""
        self._inbox.check()
        pieces = self._endpoint.fetch(self.device, sha256, offset, ())
        while (piece := await self._run(_next(pieces))) is not None:
            yield piece

    async def publish(self, subject: str, payload: bytes) -> None:
        """Returns once the endpoint has taken it."""
        await self._run(self._endpoint.publish(self.device, subject, payload))

    def commands(self) -> AsyncIterator[bytes]:
        """Commands as they come; of each kind, the newest that was not yet taken."""
        return self._inbox.commands()

    async def close(self) -> None:
        """Ends the link."""
        self.fail(TransportError("the link was closed"))
        self._network.leave(self)
        await self._network.settle()

    def deliver(self, command: bytes) -> None:
        """Puts a command where ``commands`` finds it."""
        self._inbox.put(command)

    def fail(self, reason: AgentError) -> None:
        """Ends the link and everything on it."""
        self._inbox.fail(reason)
        for task in self._running:
            task.cancel()

    async def _run(self, work: Coroutine[object, object, Answer]) -> Answer:
        if self._inbox.failure is not None:
            work.close()
        self._inbox.check()
        task = asyncio.create_task(work)
        self._running.add(task)
        try:
            return await task
        except ControllerError as error:
            raise translated(error) from error
        except asyncio.CancelledError:
            failure = self._inbox.failure
            if failure is None or _being_cancelled():
                task.cancel()
                raise
            raise TransportError(str(failure)) from None
        finally:
            self._running.discard(task)


class MemoryEnrolment:
    """The enrolment service without a network; see ``Enrolment``."""

    def __init__(
        self,
        join: Callable[[enrolment_pb2.JoinRequest], enrolment_pb2.JoinReply],
        renew: Callable[[enrolment_pb2.RenewRequest], enrolment_pb2.RenewReply],
    ) -> None:
        """``join`` and ``renew`` raise ``ControllerError`` to refuse."""
        self._join = join
        self._renew = renew
        self.lose_replies = False

    def dial(self, contact: Contact) -> tuple[Way, ...]:
        """An ``EnrolmentDialer``: whatever the address, this one answers."""
        return (Way("memory", contact.address, self),)

    async def join(self, request: enrolment_pb2.JoinRequest) -> enrolment_pb2.JoinReply:
        """An identity for a join token."""
        return self._answer(self._join, request)

    async def renew(self, request: enrolment_pb2.RenewRequest) -> enrolment_pb2.RenewReply:
        """A new certificate."""
        return self._answer(self._renew, request)

    def _answer(self, action: Callable[[AnyRequest], AnyReply], request: AnyRequest) -> AnyReply:
        try:
            reply = action(request)
        except ControllerError as error:
            raise translated(error) from error
        if self.lose_replies:
            raise TransportError("the reply was lost")
        return reply


def translated(error: ControllerError) -> AgentError:
    """What a refusal, or a failure, of the controller is to the agent."""
    told = problem(error)
    if told is None:
        return TransportError(f"the controller failed: {error.code}")
    return Refused(told.code, told.detail, told.remedy, told.retry_after_ms)


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
