"""A broker that does not even speak MQTT as it should: the link ends, and nothing is left of it."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import TransportError
from agent.transport.mqtt.dialer import DeviceAccess, MqttDialer
from controller.enrolment.authority import issue_server
from protos.mqtt.broker import Broker
from tests.brokers import HOST, Certificates
from tests.contracts.centre import DEADLINE
from tests.contracts.networks import Authorities

CONNACK = bytes.fromhex("2003000000")
SUBSCRIBE = 0x82
BAD: dict[str, bytes] = {
    "a topic that is no text": bytes.fromhex("30060002fffe0061"),
    "a topic longer than its packet": bytes.fromhex("3004ffff6161"),
    "a length that never ends": bytes.fromhex("30ffffffffff"),
    "a property that nobody knows": bytes.fromhex("30080002616202 7f0061".replace(" ", "")),
    "properties longer than their packet": bytes.fromhex("300600026162ff01"),
    "an empty message": bytes.fromhex("3000"),
    "a packet of no kind": bytes.fromhex("00020000"),
    "one more greeting": CONNACK,
    "an acknowledgement of nothing": bytes.fromhex("4002ffff"),
    "a farewell without a reason": bytes.fromhex("e000"),
    "a farewell for a reason that there is not": bytes.fromhex("e002fe00"),
    "noise": b"\xff" * 300,
}


class Stub:
    """A server that greets, agrees to every subscription, and then says something else."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        try:
            while True:
                kind, body = await packet(reader)
                if kind == SUBSCRIBE:
                    writer.write(b"\x90\x04" + body[:2] + b"\x00\x01" + self._says)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.transport.abort()
        self.left.set()


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next packet's first byte, and what follows its length."""
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return kind, await reader.readexactly(length)


@asynccontextmanager
async def listening(stub: Stub, certificates: Certificates, folder: Path) -> AsyncIterator[str]:
    shown = issue_server(certificates.broker_authority, ["localhost"], datetime.now(UTC))
    (folder / "shown.pem").write_bytes(shown.key_pem + shown.certificate_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "shown.pem")
    server = await asyncio.start_server(stub.serve, HOST, 0, ssl=context)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("bad", BAD)
async def test_what_is_no_mqtt_ends_the_link_and_leaves_nothing_behind(
    tmp_path: Path, bad: str
) -> None:
    certificates, stub = Certificates.new(), Stub(BAD[bad])
    async with listening(stub, certificates, tmp_path) as address:
        shown = certificates.device("d1")
        access = DeviceAccess(
            "d1",
            Broker(address, certificates.broker_authority.certificate_pem),
            Authorities.new().server.certificate_pem,
            shown.key_pem,
            lambda: shown.certificate_pem,
            lambda: 1,
        )
        rng = random.Random(1)  # noqa: S311 - no secret
        dialer = MqttDialer(access, SystemClock(), rng, lambda _: None, timeout=0.5)

        with pytest.raises(TransportError):
            await dialer.dial()

        async with asyncio.timeout(DEADLINE):
            await stub.left.wait()
    assert {task for task in asyncio.all_tasks() if "misc" in repr(task.get_coro())} == set()
