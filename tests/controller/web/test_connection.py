"""The API's connections over real TLS, each with as little time as the test needs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI

from controller.enrolment.authority import create_authority, issue_server
from controller.errors import ConfigError
from controller.web import connection
from controller.web.server import WebServer

DEADLINE = 15.0
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Api:
    """A server, and who connects to it."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self.port, self.trust = port, trust
        self.opened: list[Streams] = []

    async def connect(self) -> Streams:
        streams = await asyncio.open_connection("localhost", self.port, ssl=self.trust)
        self.opened.append(streams)
        return streams


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    app = FastAPI()
    app.add_api_route("/healthz", lambda: {"status": "ok"})
    authority = create_authority("server", datetime.now(UTC))
    pair = issue_server(authority, ["localhost"], datetime.now(UTC))
    certificate = tmp_path / "server.pem"
    certificate.write_bytes(pair.certificate_pem + pair.key_pem)
    server = WebServer(app, certificate)
    trust = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    made = Api(await server.start("127.0.0.1", 0), trust)
    yield made
    for _, writer in made.opened:
        writer.transport.abort()
    await server.stop()


async def ended(streams: Streams) -> bool:
    """Whether the server ends the connection."""
    async with asyncio.timeout(DEADLINE):
        try:
            return await streams[0].read() == b""
        except (ConnectionError, ssl.SSLError):
            return True


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: lo", REQUEST + b"GET /"])
async def test_who_opens_a_connection_and_asks_nothing_does_not_hold_it(
    api: Api, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.ApiConnection, "head_seconds", 0.2)
    streams = await api.connect()
    streams[1].write(said)
    if said.startswith(REQUEST):
        await streams[0].readuntil(b'{"status":"ok"}')

    assert await ended(streams)


async def test_more_connections_than_may_be_are_not_taken(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.ApiConnection, "head_seconds", 10 * DEADLINE)
    monkeypatch.setattr(connection.ApiConnection, "most", 3)
    connections = [await api.connect() for _ in range(3)]
    for reader, writer in connections:
        writer.write(REQUEST)
        await reader.readuntil(b'{"status":"ok"}')

    assert await ended(await api.connect())


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "damaged"])
async def test_a_server_that_can_not_serve_says_so_when_it_starts(
    tmp_path: Path, content: bytes | None
) -> None:
    certificate = tmp_path / "server.pem"
    if content is not None:
        certificate.write_bytes(content)
    server = WebServer(FastAPI(), certificate)

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ConfigError, match=r"server\.pem"):
            await server.start("127.0.0.1", 0)
        await server.stop()
