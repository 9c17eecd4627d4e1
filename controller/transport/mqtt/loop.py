"""Keeps a controller at an MQTT broker: connects, says that it is there, hands what comes to a desk.

Every connection is a new controller to the devices: when it breaks, their links have ended, and they
come again. So nothing that was said to an older one can be taken for news.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NoReturn

from agent.clock import Clock
from controller.errors import ControllerError
from controller.transport.courier import Endpoint, Join, Renew
from controller.transport.mqtt.desk import MqttDesk
from controller.transport.mqtt.enquiries import Enquiries
from controller.transport.mqtt.postings import Postings
from controller.transport.mqtt.senders import Senders
from controller.transport.mqtt.voice import ControllerSeal, Voice
from controller.transport.sessions import Sessions
from protos.errors import BrokerError
from protos.mqtt import topics
from protos.mqtt.broker import Broker, Habits, Will
from protos.mqtt.connection import GOODBYE_SECONDS, BrokerClient, Incoming, connected
from protos.mqtt.topics import Leaf
from protos.v1 import command_pb2

RETRY_SECONDS: Final = 2.0
STATE_SECONDS: Final = 900
"""A state that is not said again is forgotten by the broker, should no will have been told."""

Posts = AsyncIterator[Sequence[tuple[str, bytes]]]
"""(device, command) of every device's newest directive, some at a time."""

log = logging.getLogger(__name__)


class MqttBridge:
    """One controller's end of the links of all devices behind one broker."""

    def __init__(
        self,
        endpoint: Endpoint,
        sessions: Sessions,
        broker: Broker,
        own: ControllerSeal,
        device_ca_pem: bytes,
        clock: Clock,
        standing: Callable[[], Posts],
        keepalive: int = 30,
    ) -> None:
        """``standing`` is asked at every connection: the broker may have forgotten what it kept."""
        self._endpoint = endpoint
        self._sessions = sessions
        self._broker = broker
        self._own = own
        self._device_ca_pem = device_ca_pem
        self._clock = clock
        self._standing = standing
        self._keepalive = keepalive
        self._client: BrokerClient | None = None
        self._desk: MqttDesk | None = None
        self._up = asyncio.Event()
        self._lost = ""  # why there is no connection, once that was told
        self._posted: set[str] = set()  # since we connected
        self._postings = Postings()
        self._enquiries: Enquiries | None = None
        sessions.serve(self._cut, self.post)

    def serve_strangers(self, join: Join, renew: Renew) -> None:
        """From the next connection on, machines without a good certificate are answered, too.

        ``join`` and ``renew`` raise ``ControllerError`` to refuse.
        """
        self._enquiries = Enquiries(join, renew, self._own, self._clock.monotonic)

    async def run(self) -> NoReturn:
        """Until cancelled; then it says that it goes."""
        while True:
            try:
                await self._visit()
            except BrokerError as error:
                level = logging.DEBUG if str(error) == self._lost else logging.WARNING
                log.log(level, "bridge.down broker=%s: %s", self._broker.address, error)
                self._lost = str(error)
            except Exception:
                log.exception("bridge.broke broker=%s", self._broker.address)
            await self._clock.sleep(RETRY_SECONDS)

    async def up(self) -> None:
        """Returns once devices can find this controller at the broker."""
        await self._up.wait()

    async def post(self, device: str, command: bytes) -> None:
        """Leaves a directive at the broker, where the device finds it also without a controller.

        Returns when it is on its way.
        """
        directive = command_pb2.Command.FromString(command)
        client = self._client
        if client is None or not directive.HasField("directive"):
            return
        self._posted.add(device)
        await self._postings.post(client, device, directive)

    async def _visit(self) -> None:
        """One connection, from beginning to end.

        Raises:
            BrokerError: it could not be made, or has broken.
        """
        controller = secrets.token_hex(8)
        will = Will(topics.state(controller), b"", retain=True)
        desks: list[MqttDesk] = []
        enquiries = self._enquiries

        def receive(incoming: Incoming) -> None:
            address = topics.address(incoming.topic)
            if address is None or not desks:
                return
            if address.leaf is not Leaf.ASK:
                desks[0].receive(incoming, address)
            elif enquiries is not None:
                enquiries.take(address.whose, incoming.payload, voice)

        habits = Habits(self._keepalive)
        client_id = secrets.token_hex(16)  # who knows it takes the connection's place
        async with connected(self._broker, client_id, receive, habits, will) as client:
            voice = Voice(controller, self._own, client)
            desk = self._make_desk(voice)
            desks.append(desk)
            self._client, self._desk = client, desk
            self._posted.clear()
            try:
                await client.subscribe(self._heard(controller))
                await self._stay(controller, client)
            finally:
                self._up.clear()
                self._client = self._desk = None
                await desk.close()
                if enquiries is not None:
                    await enquiries.close()

    def _heard(self, controller: str) -> list[str]:
        """What all controllers share, and what comes to this one alone."""
        group = self._own.group()
        mine = [topics.shared(group, topics.CALLS), topics.DEATHS, topics.inbox(controller, "+")]
        asks = [] if self._enquiries is None else [topics.shared(group, topics.ASKS)]
        return [*mine, *asks]

    async def _stay(self, controller: str, client: BrokerClient) -> None:
        state = topics.state(controller)
        await client.publish(state, self._own.state(controller), retain=True, expiry=STATE_SECONDS)
        self._up.set()
        self._lost = ""
        log.info("bridge.up broker=%s controller=%s", self._broker.address, controller)
        beside = [
            asyncio.create_task(self._post_standing(client)),
            asyncio.create_task(self._say_again(controller, client)),
        ]
        try:
            raise await client.ended()
        except asyncio.CancelledError:
            with contextlib.suppress(BrokerError, TimeoutError):  # then its will says it
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await client.publish(state, b"", retain=True)
            raise
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)

    def _make_desk(self, voice: Voice) -> MqttDesk:
        senders = Senders(self._device_ca_pem, self._clock.now)
        return MqttDesk(self._endpoint, self._sessions, senders, self._own, voice)

    async def _say_again(self, controller: str, client: BrokerClient) -> None:
        """Keeps the state at the broker from being forgotten."""
        while True:
            await self._clock.sleep(STATE_SECONDS / 3)
            try:
                state = self._own.state(controller)
                topic = topics.state(controller)
                await client.publish(topic, state, retain=True, expiry=STATE_SECONDS)
            except BrokerError as error:
                log.debug("bridge.state-unsaid: %s", error)

    async def _post_standing(self, client: BrokerClient) -> None:
        count = 0
        try:
            async for some in self._standing():
                for device, command in some:
                    if device not in self._posted:
                        directive = command_pb2.Command.FromString(command)
                        await self._postings.post(client, device, directive)
                        count += 1
            await self._postings.settle()
        except ControllerError as error:
            log.warning("bridge.directives-not-posted code=%s: %s", error.code, error.detail)
        else:
            log.info("bridge.directives-posted count=%d", count)

    def _cut(self, device: str) -> None:
        if self._desk is not None:
            self._desk.cut(device)
