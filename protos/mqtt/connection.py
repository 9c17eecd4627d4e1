"""One connection to an MQTT 5 broker, over TLS, as both sides use it: paho through aiomqtt.

The one file that knows those libraries. Messages go out with QoS 1; what comes is handed over as it
comes, without a queue, for both sides only look where it belongs and return.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from protos.errors import BrokerError
from protos.mqtt.broker import Broker, Habits, Will
from protos.mqtt.tls import PACKET_BYTES, tls_context

TIMEOUT_SECONDS: Final = 15.0

_PING_CHECKS: Final = 1 / 8
"""Of the keepalive: so much later than that a ping may go out. Brokers wait half of it longer."""

GOODBYE_SECONDS: Final = 2.0
"""A broker that does not take a goodbye in that time is left without one."""

_SILENT_SECONDS: Final = 60.0
"""A broker that has acknowledged nothing for so long, while it had to, is gone, whatever else it says."""

_ON_THEIR_WAY: Final = 1000
"""Messages at most that wait to be acknowledged, unless the broker takes fewer at once."""

_UNSPECIFIED: Final = 0x80

_AT_ONCE: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""Else what follows an acknowledgement waits for the broker's kernel to answer that: 40 ms."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the broker; ``correlation`` and ``answer_to`` are as MQTT 5 has them."""

    topic: str
    payload: bytes
    retained: bool = False
    correlation: bytes = b""
    answer_to: str = ""


_T = TypeVar("_T")

OnMessage = Callable[[Incoming], None]


class BrokerClient:
    """A live connection; made by ``connected``. Every method raises ``BrokerError``."""

    def __init__(self, client: "_Client") -> None:
        self._client = client
        self._aliases: dict[str, int] = {}

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Returns once the broker has agreed to all of them."""
        options = [(one, SubscribeOptions(qos=1)) for one in filters]
        with translated():
            for code in await self._client.subscribe(options):
                if isinstance(code, ReasonCode) and code.is_failure:
                    raise BrokerError(f"it refused a subscription: {code}")

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry: int = 0,
        answer_to: str = "",
        correlation: bytes = b"",
        often: bool = False,
    ) -> None:
        """Returns once the broker has it.

        Args:
            topic: where to.
            payload: what.
            retain: the broker keeps it for who subscribes later; an empty one removes what it keeps.
            expiry: seconds after which it need not be delivered any more; 0 is never.
            answer_to: the topic on which an answer is awaited.
            correlation: what the answer repeats.
            often: the topic is used again and again: it is named once, and then by a number.
        """
        properties = _properties(PacketTypes.PUBLISH)
        if expiry:
            properties.MessageExpiryInterval = expiry
        if answer_to:
            properties.ResponseTopic = answer_to
        if correlation:
            properties.CorrelationData = correlation
        if often:
            topic = self._short(topic, properties)
        with translated():
            await self._client.say(topic, payload, properties, retain=retain)

    def _short(self, topic: str, properties: Properties) -> str:
        """The topic, or nothing if its alias was told before: for an alias, if there is one left."""
        known = self._aliases.get(topic)
        if known is None:
            if len(self._aliases) >= self._client.aliases:
                return topic
            properties.TopicAlias = self._aliases[topic] = len(self._aliases) + 1
            return topic
        properties.TopicAlias = known
        return ""

    async def ended(self) -> BrokerError:
        """Returns when the connection has ended, with why."""
        try:
            async for _ in self._client.messages:
                pass  # none come: they are handed over as they arrive
        except aiomqtt.MqttError as error:
            cause = error.__cause__ or error
            if isinstance(cause, aiomqtt.MqttCodeError) and cause.rc == _UNSPECIFIED:
                return BrokerError("the connection broke")  # paho's word for an end without a word
            return BrokerError(str(cause))
        return BrokerError("the connection was closed")


@asynccontextmanager
async def connected(
    broker: Broker,
    client_id: str,
    on_message: OnMessage,
    habits: Habits,
    will: Will | None = None,
) -> AsyncIterator[BrokerClient]:
    """A connection to the broker; it is closed in good order, and no will is told.

    Raises:
        BrokerError: nobody answered, or the broker refused.
    """
    with translated():
        client = _made(broker, client_id, habits, will)
    client.on_incoming = on_message
    try:
        with translated():
            await client.__aenter__()
    except BaseException:
        client.drop()
        raise
    try:
        yield BrokerClient(client)
    finally:
        try:
            client.timeout = GOODBYE_SECONDS
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)
        finally:
            client.drop()


def _made(broker: Broker, client_id: str, habits: Habits, will: Will | None) -> "_Client":
    """Not connected yet. Raises ``OSError`` or ``ValueError`` where it can't be with that."""
    host, _, port = broker.address.rpartition(":")
    properties = _properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = habits.remember
    properties.MaximumPacketSize = PACKET_BYTES
    return _Client(
        host.strip("[]"),
        int(port),
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=habits.remember == 0,
        keepalive=habits.keepalive,
        properties=properties,
        will=None if will is None else _will(will),
        tls_context=tls_context(broker),
        timeout=TIMEOUT_SECONDS,
        max_inflight_messages=_ON_THEIR_WAY,
        # What goes wrong is raised, too; its lines would say it twice, and to nobody.
        logger=logging.Logger("paho", logging.CRITICAL),  # noqa: LOG001 - nobody else gets it
        socket_options=(_AT_ONCE,),
    )


class _Client(aiomqtt.Client):
    """aiomqtt's, but for messages: those that come need no queue, and those that go a future each.

    And it looks at the clock as rarely as it may.
    """

    on_incoming: OnMessage
    aliases = 0  # how many the broker takes of us
    _dials = False  # on a thread, which nobody can cancel, and which has the socket meanwhile
    _unwanted = False  # whoever wanted the connection has given up: it must not come up any more

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._unacknowledged: dict[int, asyncio.Future[None]] = {}
        self._waits_since = 0.0  # for an acknowledgement, any; 0 if for none
        self._disconnected.add_done_callback(self._give_up)

    async def __aenter__(self) -> Self:
        """As aiomqtt's, which forgets an end that came before whoever awaits the start was told of it."""
        ended = self._disconnected
        self._dials = True
        await super().__aenter__()
        self._disconnected = ended
        return self

    async def say(
        self, topic: str, payload: bytes, properties: Properties, *, retain: bool
    ) -> None:
        """Publishes with QoS 1; returns once the broker has it."""
        if self._disconnected.done():
            raise _gone()
        sent = self._client.publish(topic, payload, 1, retain, properties)
        if sent.rc != paho.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(sent.rc, "Could not publish message")
        self._waits_since = self._waits_since or self._loop.time()
        acknowledged = self._unacknowledged[sent.mid] = self._loop.create_future()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await acknowledged
        except TimeoutError as error:
            late = aiomqtt.MqttError("a message was not acknowledged in time")
            since = self._waits_since
            silent = bool(since) and self._loop.time() - since > _SILENT_SECONDS
            if silent and not self._disconnected.done():
                self._disconnected.set_exception(late)  # paho keeps all that it would be given
            raise late from error
        finally:
            del self._unacknowledged[sent.mid]

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        finally:
            self._loop.call_soon_threadsafe(self._dialled)

    def _dialled(self) -> None:
        self._dials = False
        if self._unwanted:
            self.drop()

    def drop(self) -> None:
        """Closes the socket: aiomqtt leaves it open after what it can't read, and goes on to ping."""
        self._unwanted = True
        if not self._dials:
            self._client._sock_close()  # noqa: SLF001 - it has no public name

    async def _wait_for(self, fut: Awaitable[_T], timeout: float | None) -> _T:  # noqa: ASYNC109
        """As aiomqtt's, but that it can always be cancelled.

        ``asyncio.wait_for`` of Python 3.11 forgets it if what it waits for comes at the same moment.
        """
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError as error:
            raise aiomqtt.MqttError("the broker did not answer in time") from error

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        """As aiomqtt's, which may come a turn after the socket was closed: its number may be another's."""
        del userdata

        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # noqa: BLE001 - whoever uses the connection is told
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if client.socket() == sock and client.want_write():
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)  # for it may come of the thread that connects

    def _give_up(self, ended: asyncio.Future[None]) -> None:
        """Has nobody wait for the broker's word any more: none will come."""
        if not ended.cancelled():
            ended.exception()  # somebody else may ask why, or nobody
        awaiting: list[asyncio.Future[Any]] = [*self._unacknowledged.values()]
        awaiting += self._pending_subscribes.values()
        for awaited in awaiting:
            if not awaited.done():
                awaited.set_exception(_gone())

    def _on_publish(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        del client, userdata, properties
        self._waits_since = 0.0 if len(self._unacknowledged) < 2 else self._loop.time()
        acknowledged = self._unacknowledged.get(mid)
        if acknowledged is None or acknowledged.done():
            return
        if reason_code.is_failure:
            refused = aiomqtt.MqttError(f"it refused a message: {reason_code}")
            acknowledged.set_exception(refused)
        else:
            acknowledged.set_result(None)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        """Also before there was a connection: a broker that refuses a certificate just hangs up."""
        if not self._connected.done():
            self._connected.set_exception(
                aiomqtt.MqttError(
                    "it hung up at once: is this the right one of its ports, and does it take "
                    "our certificate?"
                )
            )
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.aliases = getattr(properties, "TopicAliasMaximum", 0)
        taken = getattr(properties, "ReceiveMaximum", _ON_THEIR_WAY)  # more are a protocol error
        self._client._max_inflight_messages = min(_ON_THEIR_WAY, taken)  # noqa: SLF001 - nobody does
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        del client, userdata
        properties = message.properties
        incoming = Incoming(
            message.topic,
            bytes(message.payload),
            message.retain,
            getattr(properties, "CorrelationData", b""),
            getattr(properties, "ResponseTopic", ""),
        )
        try:
            self.on_incoming(incoming)
        except Exception:
            log.exception("broker.message-failed topic=%s", message.topic)

    async def _misc_loop(self) -> None:
        """Pings in time; aiomqtt's own looks every second, which keeps an idle device awake."""
        while True:
            if self._client.loop_misc() != paho.MQTT_ERR_SUCCESS:
                return
            await asyncio.sleep(self._client.keepalive * _PING_CHECKS)


def _gone() -> aiomqtt.MqttError:
    return aiomqtt.MqttError("the connection has ended")


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _will(will: Will) -> aiomqtt.Will:
    properties = _properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = will.delay
    return aiomqtt.Will(will.topic, will.payload, 1, will.retain, properties)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns what the libraries raise into ``BrokerError``."""
    try:
        yield
    except aiomqtt.MqttError as error:
        raise BrokerError(str(error)) from error
    except (OSError, ValueError) as error:
        raise BrokerError(f"it can't be reached: {error}") from error
