"""Who connects to a broker in these tests, and what comes of it."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from controller.broker.listeners import Door
from controller.enrolment.authority import KeyPair
from protos.mqtt import topics
from protos.mqtt.topics import Party
from tests.brokers import Broker

DEADLINE = 15.0
DEVICE, OTHER = "cam-1", "cam-2"
CLIENT, OTHER_CLIENT = "asker", "other-asker"
"""Client ids of strangers; here they are no secrets."""
IDS = {Party.DEVICE: "device", Party.CONTROLLER: "controller", Party.STRANGER: CLIENT}
FENCE = b"fence"
"""What is written last: who has got it would have got the others before."""

GRANTED, NOT_AUTHORISED = 0x00, 0x87


class Client(aiomqtt.Client):
    """A client that says what the broker has answered to a message."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._answers: dict[int, int] = {}

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any
    ) -> None:
        self._answers[mid] = reason_code.value
        super()._on_publish(client, userdata, mid, reason_code, properties)

    async def write(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """The broker's reason code."""
        before = set(self._answers)
        await self.publish(topic, payload, qos=1, retain=retain, timeout=DEADLINE)
        (mid,) = set(self._answers) - before
        # "No matching subscribers" is said of what was taken, too.
        return GRANTED if self._answers[mid] == 0x10 else self._answers[mid]

    async def read(self, topic: str) -> int:
        """The broker's reason code for a subscription, at QoS 1."""
        (answer,) = await self.subscribe(topic, qos=1, timeout=DEADLINE)
        assert isinstance(answer, ReasonCode)
        return GRANTED if answer.value == 1 else int(answer.value)

    async def until_fence(self) -> list[tuple[str, bytes]]:
        """What has come before the fence."""
        found: list[tuple[str, bytes]] = []
        async with asyncio.timeout(DEADLINE):
            async for message in self.messages:
                if message.payload == FENCE:
                    return found
                assert isinstance(message.payload, bytes)
                found.append((str(message.topic), message.payload))
        raise AssertionError


def door_of(party: Party) -> Door:
    return {
        Party.DEVICE: Door.DEVICES,
        Party.CONTROLLER: Door.CONTROLLERS,
        Party.STRANGER: Door.STRANGERS,
    }[party]


def shown_by(broker: Broker, party: Party, name: str = DEVICE) -> KeyPair | None:
    """The certificate that the party has."""
    if party is Party.DEVICE:
        return broker.certificates.device(name)
    return broker.certificates.controller if party is Party.CONTROLLER else None


@asynccontextmanager
async def connected(
    broker: Broker, party: Party, name: str = DEVICE, client_id: str = "", **more: Any
) -> AsyncIterator[Client]:
    client = Client(
        broker.host,
        broker.ports.of(door_of(party)),
        identifier=client_id or IDS[party],
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=broker.context(shown_by(broker, party, name)),
        timeout=DEADLINE,
        **more,
    )
    async with client:
        yield client


async def knock(broker: Broker, door: Door, shown: KeyPair | None, client_id: str = "k") -> int:
    """The reason code of the broker's CONNACK; -1 if TLS comes to no end, so that there is none.

    A client library waits for its time to run out where a server refuses a certificate.
    """
    async with asyncio.timeout(DEADLINE):
        try:
            reader, writer = await asyncio.open_connection(
                broker.host, broker.ports.of(door), ssl=broker.context(shown)
            )
        except (ssl.SSLError, ConnectionError):
            return -1
        try:
            name = client_id.encode()
            body = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + struct.pack("!H", len(name)) + name
            writer.write(bytes([0x10, len(body)]) + body)
            await writer.drain()
            answer = await reader.readexactly(4)
        except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            return -1
        finally:
            writer.transport.abort()
    assert answer[0] == 0x20, answer
    return answer[3]


def example(topic: str, *, device: str = DEVICE, client: str = CLIENT) -> str:
    """A topic that the filter of a rule matches."""
    filled = topic.replace("{device}", device).replace("{client}", client)
    for known, name in (("devices/+", device), ("enrolment/+", client), ("in/+", device)):
        filled = filled.replace(known, known.replace("+", name))
    filled = filled.replace("controllers/+", "controllers/c1")
    assert topics.address(filled) is not None
    return filled
