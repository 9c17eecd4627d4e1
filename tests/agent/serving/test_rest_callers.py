"""Who asks: connections that break off or go on, web pages, and machines elsewhere."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from agent.serving.rest import RestApplication
from agent.serving.rest_body import BODIES
from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from tests.agent.serving.rest_requests import asked
from tests.agent.serving.served import Served


async def test_after_any_refusal_the_same_connection_goes_on(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.rest_port)
    body = json.dumps(asked()).encode()
    for path, status in [(b"none", b"404"), (b"linear", b"200"), (b"linear", b"200")]:
        writer.write(
            b"POST /v2/models/%b/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            % (path, len(body))
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        assert head.split(b" ")[1] == status
    writer.close()


async def test_a_client_that_goes_away_in_the_middle_of_a_body_harms_nobody(
    served: Served, http: httpx.AsyncClient
) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", served.rest_port)
        writer.write(
            b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\nhalf"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    assert (await http.post("/v2/models/linear/infer", json=asked())).status_code == 200


async def test_what_is_no_http_is_refused(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.rest_port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")

    assert b"400" in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        pytest.param({"Host": "evil.example:8500"}, "evil.example", id="DNS rebinding"),
        pytest.param({"Host": "localhost.evil.example"}, "localhost.evil", id="a name like ours"),
        pytest.param({"Host": "[::1].evil.example"}, "evil.example", id="an address like ours"),
        pytest.param({"Origin": "https://evil.example"}, "evil.example", id="another site"),
        pytest.param({"Origin": "null"}, "null", id="a sandboxed page"),
    ],
)
async def test_web_pages_are_refused_and_counted_nowhere(
    served: Served, http: httpx.AsyncClient, headers: dict[str, str], said: str
) -> None:
    reply = await http.post(
        "/v2/models/linear/infer",
        content=json.dumps(asked()),
        headers={"Content-Type": "text/plain", **headers},
    )

    assert reply.status_code == 403
    assert said in reply.json()["error"]
    assert served.host.deployments.traffic("linear", "champion").requests == 0
    assert (await http.get("/v2", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8500", "[::1]:8500", "127.0.0.2", "a.localhost"]
)
async def test_applications_of_this_machine_are_answered_by_every_name_it_has(
    http: httpx.AsyncClient, host: str
) -> None:
    assert (await http.get("/v2", headers={"Host": host})).status_code == 200


async def test_where_other_machines_may_ask_they_may_use_its_name(served: Served) -> None:
    workers = Workers(threads=1)
    server = RestServer(served.host.deployments, workers, allow_remote=True)
    port = await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        named = await client.get("/v2", headers={"Host": "press-7.plant"})
        page = await client.get("/v2", headers={"Host": "press-7.plant", "Origin": "http://evil"})
    await server.stop()
    workers.close()

    assert (named.status_code, page.status_code) == (200, 403)


async def test_bodies_that_are_never_finished_fill_so_much_memory_and_no_more(
    served: Served,
) -> None:
    """As fast as they come: nothing here depends on the network."""
    workers = Workers(threads=1)
    app = RestApplication(served.host.deployments, workers, limit=1000)
    unfinished, gone = asyncio.Event(), asyncio.Event()
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def ask(*chunks: bytes) -> None:
        scope = {"path": "/v2/models/linear/infer", "method": "POST", "headers": []}
        waiting = list(chunks)

        async def receive() -> dict[str, Any]:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(0), "more_body": True}
            unfinished.set()
            await gone.wait()
            return {"type": "http.disconnect"}

        await app(scope, receive, send)

    clients = []
    for _ in range(BODIES):
        unfinished.clear()
        clients.append(asyncio.create_task(ask(b"x" * 500, b"x" * 500)))
        await unfinished.wait()
    await asyncio.wait_for(ask(b"x"), 10)
    assert statuses == [503]

    gone.set()
    await asyncio.gather(*clients)
    await asyncio.wait_for(ask(b"x" * 1000), 10)
    assert statuses == [503]
    workers.close()
