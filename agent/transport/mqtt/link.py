"""A ``Link`` over an MQTT 5 broker: one connection to the broker, and a controller that takes us.

The broker is trusted with nothing: ``letters`` signs and seals. Calls go to any controller, what
needs an order goes to the one that took the device's birth. When that one goes, the link has ended.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack

from google.protobuf.message import DecodeError

from agent.errors import AgentError, TransportError
from agent.transport.inbox import Inbox
from agent.transport.mqtt.chunks import chunks
from agent.transport.mqtt.controllers import Controller, Controllers
from agent.transport.mqtt.letters import Letters
from agent.transport.mqtt.questions import Answer, Questions, Waits
from protos.errors import BrokerError, DocumentError
from protos.mqtt import topics
from protos.mqtt.connection import GOODBYE_SECONDS, BrokerClient, Incoming
from protos.mqtt.topics import Leaf
from protos.v1 import command_pb2, common_pb2, mqtt_pb2

log = logging.getLogger(__name__)


class MqttLink:
    """See ``Link``. Made by ``MqttDialer``, which lets it begin."""

    def __init__(
        self,
        letters: Letters,
        controllers: Controllers,
        on_desired: Callable[[bytes], None],
        waits: Waits,
    ) -> None:
        """``on_desired`` is told directives that come before the link is up."""
        self._letters = letters
        self._controllers = controllers
        self._on_desired: Callable[[bytes], None] | None = on_desired
        self._inbox = Inbox()
        self._questions = Questions(letters, self._fail, waits)
        self._came = asyncio.Event()
        self._doubt = ""
        self._client: BrokerClient | None = None
        self._controller: Controller | None = None
        self._watch: asyncio.Task[None] | None = None
        self._rest = AsyncExitStack()

    async def attend(self, client: BrokerClient, rest: AsyncExitStack) -> None:
        """Hears what the broker has for us from here on; ``rest`` closes the connection."""
        self._client, self._rest = client, rest
        self._watch = asyncio.create_task(self._watched(client))
        device = self._letters.device
        # Once the second is granted, all the states that stand there have come: one may be chosen.
        await asyncio.gather(
            client.subscribe([topics.STATES]),
            client.subscribe([topics.desired(device), topics.down(device)]),
        )

    async def be_born(
        self, pick: Callable[[], Controller | None], there_in: float, answers_in: float
    ) -> None:
        """Returns once a controller has taken the device.

        Raises:
            TransportError: none is there in time.
            TimeoutError: the one that was picked does not answer in time.
            Refused: it does not want the device.
        """
        try:
            async with asyncio.timeout(there_in):
                while (controller := pick()) is None:
                    self._inbox.check()
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError as error:
            raise TransportError(self._doubt or "no controller is at the broker") from error
        self._controller = controller
        if self._client is not None:
            self._questions.aim(self._client, controller)
        await self._questions.be_born(answers_in)
        self._on_desired = None

    @property
    def controller(self) -> str:
        """The id of the controller that was picked; empty before."""
        return self._controller.id if self._controller else ""

    def receive(self, incoming: Incoming) -> None:
        """Takes what the broker brings; what proves nothing is dropped."""
        address = topics.address(incoming.topic)
        if address is None:
            return
        try:
            match address.leaf:
                case Leaf.STATE:
                    self._note_state(address.whose, incoming.payload)
                case Leaf.DESIRED:
                    self._take_desired(incoming.payload)
                case Leaf.DOWN:
                    self._take_down(self._letters.read(incoming.payload, self._controllers))
                case _:
                    log.debug("link.message-unknown topic=%s", incoming.topic)
        except DocumentError as error:
            if address.leaf is Leaf.STATE:
                self._doubt = f"who is at the broker is not our controller: {error.detail}"
            log.debug("link.message-dropped topic=%s code=%s", incoming.topic, error.code)

    async def call(self, method: str, request: bytes) -> bytes:
        """A controller's answer."""
        message = mqtt_pb2.DeviceMessage(request=mqtt_pb2.Request(method=method, body=request))
        return (await self._questions.ask(message)).body

    async def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on."""
        self._inbox.check()

        async def ask(offset: int, length: int) -> bytes:
            wanted = mqtt_pb2.ChunkRequest(sha256=sha256, offset=offset, length=length)
            return await self._questions.chunk(wanted)

        pieces = chunks(ask, offset)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    async def publish(self, subject: str, payload: bytes) -> None:
        """Returns once the controller has it."""
        announcement = mqtt_pb2.Announcement(subject=subject, payload=payload)
        message = mqtt_pb2.DeviceMessage(announcement=announcement)
        await self._questions.ask(message, addressed=True)

    def commands(self) -> AsyncIterator[bytes]:
        """Commands as they come; of each kind, the newest that was not yet taken."""
        return self._inbox.commands()

    async def close(self) -> None:
        """Says goodbye, if it can, and ends the connection."""
        self._fail(TransportError("the link was closed"))
        if self._controller is not None and self._client is not None:
            # Also after silence: who did not answer may take us for there, and no will is told.
            death = topics.death(self._letters.device)
            try:
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._client.publish(death, self._letters.will())
            except (BrokerError, TimeoutError) as error:
                log.debug("link.no-goodbye: %s", error)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self._rest.aclose()

    async def _watched(self, client: BrokerClient) -> None:
        error = await client.ended()
        self._fail(TransportError(f"the broker has gone: {error}"))

    def _note_state(self, controller: str, state: bytes) -> None:
        self._controllers.take(controller, state)
        self._came.set()
        mine = self._controller
        if mine is not None and mine.id == controller and not state:
            self._fail(TransportError("the controller has gone from the broker"))

    def _take_desired(self, envelope: bytes) -> None:
        try:
            directive = common_pb2.Envelope.FromString(envelope)
        except DecodeError:
            log.warning("link.directive-unreadable bytes=%d", len(envelope))
            return
        command = command_pb2.Command(directive=directive).SerializeToString()
        if self._on_desired is not None:
            self._on_desired(command)
        self._inbox.put(command)

    def _take_down(self, message: Answer) -> None:
        match message.WhichOneof("kind"):
            case "command":
                self._inbox.put(message.command.SerializeToString())
            case "farewell":
                self._fail(TransportError("the controller ended the link"))
            case _:
                self._questions.take(message)

    def _fail(self, reason: AgentError) -> None:
        self._questions.fail(self._inbox.fail(reason))
        self._came.set()
