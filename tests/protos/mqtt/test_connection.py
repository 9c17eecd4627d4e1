import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.enrolment.authority import create_authority, issue_server
from protos.errors import BrokerError
from protos.mqtt.broker import Broker, Habits
from protos.mqtt.connection import Incoming, connected

ACCEPTED = bytes([0x20, 3, 0, 0, 0])
"""CONNACK: no session, success, no properties."""

TAKEN_OVER = bytes([0xE0, 2, 0x8E, 0])
"""DISCONNECT, for another has taken its place."""

PUBLISH, SUBSCRIBE = 3, 8
DEADLINE = 15.0


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_broker(tmp_path: Path, serve: Serve) -> AsyncIterator[Broker]:
    now = datetime.now(UTC)
    authority = create_authority("broker CA", now)
    own = issue_server(authority, ["127.0.0.1"], now)
    path = tmp_path / "broker.pem"
    path.write_bytes(own.key_pem + own.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield Broker(address, authority.certificate_pem)


async def packet(reader: asyncio.StreamReader) -> int:
    """Takes a packet of less than 128 bytes; returns its kind."""
    head = await reader.readexactly(2)
    await reader.readexactly(head[1])
    return head[0] >> 4


async def test_a_message_on_its_way_fails_as_soon_as_the_connection_breaks(tmp_path: Path) -> None:
    async def forget(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(ACCEPTED)
        await reader.read(65_536)
        writer.transport.abort()

    async with (
        a_broker(tmp_path, forget) as broker,
        connected(broker, "one", lambda _: None, Habits()) as client,
    ):
        with pytest.raises(BrokerError, match="the connection has ended"):
            await client.publish("a/topic", b"x")
        with pytest.raises(BrokerError, match="the connection has ended"):
            await client.publish("a/topic", b"x")
        assert str(await client.ended()) == "the connection broke"


async def test_one_that_hangs_up_at_once_may_be_the_wrong_port_or_refuse_our_certificate(
    tmp_path: Path,
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.close()

    async with a_broker(tmp_path, hang_up) as broker, asyncio.timeout(DEADLINE):
        with pytest.raises(BrokerError, match=r"it hung up at once: .* ports, .* certificate"):
            async with connected(broker, "one", lambda _: None, Habits()):
                pass


async def test_what_comes_together_with_the_acceptance_is_heard(tmp_path: Path) -> None:
    """Together, and in one record of TLS: nothing more comes that would wake who reads."""
    heard = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(ACCEPTED + 2 * bytes([0x30, 5, 0, 1, ord("a"), 0, ord("x")]))
        await reader.read()
        writer.transport.abort()

    messages: list[Incoming] = []

    def hear(message: Incoming) -> None:
        messages.append(message)
        if len(messages) == 2:
            heard.set()

    async with (
        a_broker(tmp_path, greet) as broker,
        asyncio.timeout(DEADLINE),
        connected(broker, "one", hear, Habits()),
    ):
        await heard.wait()

    assert messages == 2 * [Incoming("a", b"x")]


async def test_an_end_that_comes_together_with_the_acceptance_is_an_end(tmp_path: Path) -> None:
    async def take_and_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(ACCEPTED + TAKEN_OVER)
        await reader.read()
        writer.transport.abort()

    async with (
        a_broker(tmp_path, take_and_leave) as broker,
        asyncio.timeout(DEADLINE),
        connected(broker, "one", lambda _: None, Habits()) as client,
    ):
        assert "Session taken over" in str(await client.ended())
        with pytest.raises(BrokerError, match="the connection has ended"):
            await client.publish("a/topic", b"x")


async def test_a_packet_larger_than_was_agreed_ends_the_connection_before_it_is_taken(
    tmp_path: Path,
) -> None:
    async def swell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(ACCEPTED)
        writer.write(bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F]))  # 256 MiB are to follow
        await reader.read()
        writer.transport.abort()

    async with (
        a_broker(tmp_path, swell) as broker,
        asyncio.timeout(DEADLINE),
        connected(broker, "one", lambda _: None, Habits()) as client,
    ):
        assert isinstance(await client.ended(), BrokerError)


async def test_no_more_is_on_its_way_than_the_broker_takes_at_once(tmp_path: Path) -> None:
    came: list[int] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(bytes([0x20, 6, 0, 0, 3, 0x21, 0, 2]))  # CONNACK; Receive Maximum: 2
        while not came or came[-1] != SUBSCRIBE:
            came.append(await packet(reader))
        writer.transport.abort()

    async with (
        a_broker(tmp_path, count) as broker,
        connected(broker, "one", lambda _: None, Habits()) as client,
    ):
        saying = [client.publish("a/topic", b"x") for _ in range(5)]
        ends = await asyncio.gather(*saying, client.subscribe(["a"]), return_exceptions=True)

    assert all(isinstance(one, BrokerError) for one in ends)
    assert came == [PUBLISH, PUBLISH, SUBSCRIBE]


async def test_a_broker_that_acknowledges_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protos.mqtt.connection.TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("protos.mqtt.connection._SILENT_SECONDS", 0.1)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(ACCEPTED)
        while await reader.read(65_536):
            pass
        writer.transport.abort()

    async with (
        a_broker(tmp_path, swallow) as broker,
        asyncio.timeout(DEADLINE),
        connected(broker, "one", lambda _: None, Habits()) as client,
    ):
        with pytest.raises(BrokerError, match="not acknowledged"):
            await client.publish("a/topic", b"x")
        assert "not acknowledged" in str(await client.ended())


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # who leaves before it has read all resets
        while data := await reader.read(65_536):
            writer.write(data)
    writer.transport.abort()


async def test_who_gives_up_while_it_connects_leaves_nothing_open(tmp_path: Path) -> None:
    knocked, given_up, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        writer.transport.abort()
        left.set()

    async with a_broker(tmp_path, listen) as broker:

        async def hesitate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            knocked.set()
            await given_up.wait()
            far = await asyncio.open_connection(*broker.address.split(":"))
            await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))

        before = await asyncio.start_server(hesitate, "127.0.0.1", 0)
        async with before, asyncio.timeout(DEADLINE):
            address = f"127.0.0.1:{before.sockets[0].getsockname()[1]}"
            there = replace(broker, address=address)
            dialling = asyncio.create_task(
                connected(there, "one", lambda _: None, Habits()).__aenter__()
            )
            await knocked.wait()
            dialling.cancel()
            await asyncio.wait([dialling])
            given_up.set()
            await left.wait()


async def test_an_address_or_an_authority_that_can_not_be_is_our_error_too(tmp_path: Path) -> None:
    for wrong in (Broker("nowhere:port", b""), Broker("localhost:1", b"no certificate")):
        with pytest.raises(BrokerError, match="can't be reached"):
            async with connected(wrong, "one", lambda _: None, Habits()):
                pass
