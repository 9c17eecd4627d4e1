import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.enrolment.authority import create_authority, issue_server
from protos.errors import BrokerError
from protos.mqtt.broker import Broker
from protos.mqtt.connection import Habits, connected

ACCEPTED = bytes([0x20, 3, 0, 0, 0])
"""CONNACK: no session, success, no properties."""


async def test_a_message_on_its_way_fails_as_soon_as_the_connection_breaks(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = create_authority("broker CA", now)
    own = issue_server(authority, ["127.0.0.1"], now)
    path = tmp_path / "broker.pem"
    path.write_bytes(own.key_pem + own.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    async def forget(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(ACCEPTED)
        await reader.read(65_536)
        writer.transport.abort()

    server = await asyncio.start_server(forget, "127.0.0.1", 0, ssl=context)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        broker = Broker(address, authority.certificate_pem)
        async with connected(broker, "one", lambda _: None, Habits()) as client:
            with pytest.raises(BrokerError, match="the connection has ended"):
                await client.publish("a/topic", b"x")
            with pytest.raises(BrokerError, match="the connection has ended"):
                await client.publish("a/topic", b"x")
