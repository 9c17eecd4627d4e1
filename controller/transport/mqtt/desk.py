"""Answers what devices say through one connection to a broker."""

import contextlib
import logging
import time
from typing import Final

from google.protobuf.message import DecodeError

from controller.errors import ControllerError, InvalidInput, NotFound, TooManyCalls, TooOften
from controller.transport import token_bucket as bucket
from controller.transport.courier import Endpoint
from controller.transport.device_tasks import DeviceTasks
from controller.transport.dispatch import problem
from controller.transport.mqtt.senders import CertificateWanted, Sender, Senders
from controller.transport.mqtt.session import MqttSession
from controller.transport.mqtt.voice import ControllerSeal, Listener, Voice
from controller.transport.sessions import Sessions
from protos.errors import DocumentError
from protos.limits import CHUNK_BYTES
from protos.mqtt.connection import Incoming
from protos.mqtt.sealing import UP, claim, unseal
from protos.mqtt.topics import Address, Leaf
from protos.v1 import command_pb2, mqtt_pb2

CALLS: Final = 32
"""Of one device at once: it may not take the others' turn."""

LINES: Final = bucket.Rate(burst=50, per_second=0.5)
"""Of the log, about what was dropped; more of them stand there at the level of debugging."""

DeviceMessage = mqtt_pb2.DeviceMessage
ControllerMessage = mqtt_pb2.ControllerMessage

log = logging.getLogger(__name__)


class MqttDesk:
    """The devices that one connection to the broker has brought."""

    def __init__(
        self,
        endpoint: Endpoint,
        sessions: Sessions,
        senders: Senders,
        own: ControllerSeal,
        voice: Voice,
    ) -> None:
        self._endpoint = endpoint
        self._sessions = sessions
        self._senders = senders
        self._own = own
        self._voice = voice
        self._links: dict[str, MqttSession] = {}
        self._calls = DeviceTasks()
        self._words = DeviceTasks()  # said to a device, whatever it asks meanwhile
        self._open = True
        self._lines = bucket.full(LINES, time.monotonic())

    def receive(self, incoming: Incoming, address: Address) -> None:
        """Takes a message; what proves nothing is dropped, and so is what comes after the end."""
        if not self._open:
            return
        try:
            if address.leaf is Leaf.DEATH:
                self._take_death(address.whose, incoming.payload)
            else:
                self._take(address, incoming)
        except DocumentError as error:
            self._note_dropped(address.whose, error)

    def _note_dropped(self, device: str, error: DocumentError) -> None:
        now = time.monotonic()
        loud = bucket.level(self._lines, LINES, now) >= 1.0
        self._lines = bucket.take(self._lines, LINES, now) if loud else self._lines
        log.log(
            logging.INFO if loud else logging.DEBUG,
            "bridge.message-dropped device=%s code=%s: %s",
            device,
            error.code,
            error.detail,
        )

    def cut(self, device: str) -> None:
        """Ends whatever is done for the device."""
        self._calls.cut(device)

    async def close(self) -> None:
        """Ends every link and everything that is done for one."""
        self._open = False
        for session in tuple(self._links.values()):
            self._leave(session)
        await self._calls.close()
        await self._words.close()

    def _take(self, address: Address, incoming: Incoming) -> None:
        claimed = claim(unseal(incoming.payload, self._own.sealing_key, UP), DeviceMessage)
        message = claimed.message
        _check_place(message, address, self._voice.controller)
        to = Listener(
            message.device,
            message.session,
            message.answer_key,
            message.number,
            incoming.correlation[:64],
        )
        try:
            sender = self._senders.take(claimed, address.whose)
        except CertificateWanted:
            wanted = ControllerMessage(certificate_wanted=mqtt_pb2.CertificateWanted())
            self._reply(to, wanted)
            return
        if message.session <= sender.gone:  # its will was told too early: it shall come again
            self._reply(to, _farewell())
            return
        link = self._links.get(sender.device)
        if link is not None and link.number < message.session and address.leaf is Leaf.CALL:
            self._leave(link)  # its newer link is to another controller
        if self._calls.count(sender.device) >= CALLS:
            many = TooManyCalls(f"device {sender.device!r} has {CALLS} calls under way already")
            self._reply(to, refusal(many))
            return
        self._calls.start(sender.device, self._answer(message, sender, to))

    def _reply(self, to: Listener, message: ControllerMessage) -> None:
        """Answers at once; who asks faster than the broker takes answers gets no more of them."""
        if self._words.count(to.device) < CALLS:
            self._words.start(to.device, self._voice.answer(to, message))

    async def _answer(self, message: DeviceMessage, sender: Sender, to: Listener) -> None:
        try:
            async with _turn(message, self._links.get(to.device)):
                await self._endpoint.admit(sender.device, sender.serial)
                answer = await self._done(message, to)
        except ControllerError as error:
            # Devices ask for the next root until there is none: that is no news, nor is their haste.
            level = logging.DEBUG if isinstance(error, NotFound | TooOften) else logging.INFO
            log.log(
                level, "call.refused device=%s code=%s: %s", to.device, error.code, error.detail
            )
            answer = refusal(error)
        await self._voice.answer(to, answer)

    async def _done(self, message: DeviceMessage, to: Listener) -> ControllerMessage:
        match message.WhichOneof("kind"):
            case "birth":
                return await self._born(to)
            case "announcement":
                return await self._announced(message.announcement, to)
            case "request":
                request = message.request
                body = await self._endpoint.call(to.device, request.method, request.body)
                return ControllerMessage(body=body)
            case "chunk":
                return ControllerMessage(
                    body=await _chunk(self._endpoint, to.device, message.chunk)
                )
            case _:
                raise InvalidInput("message: of a kind that this controller does not know")

    async def _born(self, to: Listener) -> ControllerMessage:
        known, sender = self._links.get(to.device), self._senders.known(to.device)
        if known is not None and known.number > to.session:
            return _farewell()  # a newer one has overtaken it while it was asked for
        if sender is not None and to.session <= sender.gone:
            return _farewell()  # and here its death has
        serial = "" if sender is None else sender.serial
        session = MqttSession(
            to.device, serial, to.session, to.answer_key, self._command, self._end
        )
        self._links[to.device] = session
        try:
            await self._sessions.arrive(session)
        except ControllerError:
            self._leave(session)
            raise
        return ControllerMessage(done=mqtt_pb2.Done())

    async def _announced(
        self, announcement: mqtt_pb2.Announcement, to: Listener
    ) -> ControllerMessage:
        session = self._links.get(to.device)
        if session is None or session.number != to.session:
            return _farewell()
        await self._endpoint.publish(to.device, announcement.subject, announcement.payload)
        return ControllerMessage(done=mqtt_pb2.Done())

    def _take_death(self, device: str, payload: bytes) -> None:
        claimed = claim(payload, DeviceMessage)
        sender, session = self._senders.known(device), self._links.get(device)
        if sender is None:
            return
        message = claimed.check(sender.key)
        named = message.device == device and message.session == sender.session
        if not message.HasField("death") or not named:
            return
        sender.gone = message.session  # its birth may still wait to be admitted
        if session is not None:
            self._leave(session)

    def _leave(self, session: MqttSession) -> None:
        if self._links.get(session.device) is session:
            del self._links[session.device]
        self._sessions.leave(session)

    def _end(self, session: MqttSession) -> None:
        """The book has ended the link: the device shall know."""
        if self._links.get(session.device) is session:
            del self._links[session.device]
        self._tell(session, _farewell())

    def _command(self, session: MqttSession, command: bytes) -> None:
        try:
            message = ControllerMessage(command=command_pb2.Command.FromString(command))
        except DecodeError:
            log.warning("bridge.command-unreadable device=%s", session.device)
            return
        self._tell(session, message)

    def _tell(self, session: MqttSession, message: ControllerMessage) -> None:
        to = Listener(session.device, session.number, session.answer_key)
        words = self._voice.command(to, message, session.next_command())
        self._words.start(session.device, words)


def _check_place(message: DeviceMessage, address: Address, controller: str) -> None:
    """What needs an order comes to this controller by name, and nothing else does."""
    to_us = message.WhichOneof("kind") in ("birth", "announcement")
    if to_us != (address.leaf is Leaf.IN):
        raise DocumentError("not-for-us", "on a topic where it does not belong")
    if to_us and message.controller != controller:
        raise DocumentError("not-for-us", "for another controller, or an older one")


async def _chunk(endpoint: Endpoint, device: str, wanted: mqtt_pb2.ChunkRequest) -> bytes:
    """The bytes that were asked for; fewer only at the blob's end."""
    if not 0 < wanted.length <= CHUNK_BYTES:
        raise InvalidInput(f"length: {wanted.length} is not between 1 and {CHUNK_BYTES}")
    found = bytearray()
    pieces = endpoint.fetch(device, wanted.sha256, wanted.offset, tuple(wanted.have))
    async with contextlib.aclosing(pieces):  # type: ignore[type-var]
        async for piece in pieces:
            found += piece
            if len(found) >= wanted.length:
                break
    return bytes(found[: wanted.length])


def _turn(
    message: DeviceMessage, session: MqttSession | None
) -> contextlib.AbstractAsyncContextManager[None]:
    """What the device announces is taken in the order in which it came."""
    if session is None or not message.HasField("announcement"):
        return contextlib.nullcontext()
    return session.turn


def _farewell() -> ControllerMessage:
    return ControllerMessage(farewell=mqtt_pb2.Farewell())


def refusal(error: ControllerError) -> ControllerMessage:
    """What the device is told: no, or that there is no answer."""
    told = problem(error)
    if told is None:
        return ControllerMessage(failed=f"the controller failed: {error.code}")
    return ControllerMessage(refused=told)
