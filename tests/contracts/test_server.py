"""What every server of predictions promises: the same suite for each."""

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from agent.errors import ConfigError, Overloaded
from agent.serving.description import Hosting
from agent.serving.grpc_server import GrpcServer
from agent.serving.rest_server import RestServer
from agent.serving.server import Server
from agent.serving.workers import Workers
from tests.agent.hosting import Host

DEADLINE = 10.0
Make = Callable[..., Server]


@pytest.fixture(params=[RestServer, GrpcServer], ids=["rest", "grpc"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    workers, made = Workers(threads=1), []
    hosting: Hosting = Host().deployments

    def one(*, allow_remote: bool = False) -> Server:
        server: Server = request.param(hosting, workers, allow_remote=allow_remote)
        made.append(server)
        return server

    yield one
    for server in made:
        await server.stop()
    workers.close()


async def answers(port: int, host: str = "127.0.0.1") -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_free_port_is_bound_and_told(make: Make) -> None:
    first, second = await make().start("127.0.0.1", 0), await make().start("127.0.0.1", 0)

    assert first != second
    assert await answers(first)
    assert await answers(second)


async def test_localhost_is_loopback(make: Make) -> None:
    assert await answers(await make().start("localhost", 0))


EVERYWHERE = "0.0.0.0"  # noqa: S104 - that it is refused is what is tested


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1"])
async def test_other_machines_are_kept_out_unless_that_is_meant(make: Make, host: str) -> None:
    with pytest.raises(ConfigError, match=r"serving.allow_remote = true"):
        await make().start(host, 0)


async def test_other_machines_may_be_let_in(make: Make) -> None:
    assert await answers(await make(allow_remote=True).start(EVERYWHERE, 0))


async def test_a_host_that_is_no_address_is_named(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"serving\.host: 'example\.org'"):
        await make().start("example.org", 0)


async def test_a_port_that_is_taken_is_named(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            await make().start("127.0.0.1", port)


async def test_two_servers_never_share_a_port(make: Make) -> None:
    port = await make().start("127.0.0.1", 0)

    with pytest.raises(ConfigError, match=str(port)):
        await make().start("127.0.0.1", port)


async def test_a_stopped_server_answers_no_more_and_may_be_stopped_again(make: Make) -> None:
    server = make()
    port = await server.start("127.0.0.1", 0)

    await server.stop()
    await server.stop()

    assert not await answers(port)


async def test_signals_stay_with_whoever_had_them(make: Make) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    await make().start("127.0.0.1", 0)

    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


async def test_more_requests_than_may_wait_are_turned_away() -> None:
    workers = Workers(threads=1, waiting=1)
    go_on = threading.Event()
    waiting = [asyncio.create_task(workers.run(lambda: go_on.wait(DEADLINE))) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await workers.run(bool)
    go_on.set()

    assert await asyncio.gather(*waiting) == [True, True]
    async with asyncio.timeout(DEADLINE):
        assert await workers.run(lambda: 7) == 7
    workers.close()
