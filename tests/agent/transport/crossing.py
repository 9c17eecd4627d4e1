"""What the tests of ``Connection`` stand on: a clock, and networks that lead to one controller."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from agent.transport.backoff import Backoff
from agent.transport.connection import Connection
from agent.transport.link import Dialer, Link
from agent.transport.route import Patience, looks_every
from controller.transport.courier import Endpoint
from simulations.memory_link import MemoryNetwork
from tests.contracts.centre import DEADLINE

PATIENCE = Patience(
    unanswered=Backoff(base=1.0, cap=60.0),
    refused=Backoff(base=900.0, cap=3600.0),
    looks=looks_every(300.0),
    stable_after=60.0,
)


class Steps:
    """A clock whose sleepers wait until the test lets them go."""

    def __init__(self) -> None:
        self.time = 0.0
        self.asleep: list[tuple[float, asyncio.Future[None]]] = []
        self._news = asyncio.Event()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        sleeper = (seconds, asyncio.get_running_loop().create_future())
        self.asleep.append(sleeper)
        self._news.set()
        try:
            await sleeper[1]
        finally:
            if sleeper in self.asleep:  # it was cancelled
                self.asleep.remove(sleeper)

    async def falls_asleep(self) -> float:
        """The length of the next sleep, which goes on."""
        async with asyncio.timeout(DEADLINE):
            while not self.asleep:
                self._news.clear()
                await self._news.wait()
        return self.asleep[0][0]

    async def slept(self) -> float:
        """The length of the next sleep, which then ends."""
        await self.falls_asleep()
        seconds, future = self.asleep.pop(0)
        self.time += seconds
        future.set_result(None)
        return seconds


class CountingDialer:
    """Another dialer, which can be held up; how often it was asked."""

    def __init__(self, inner: Dialer) -> None:
        self._inner = inner
        self.dialled = 0
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def dial(self) -> Link:
        self.dialled += 1
        self.begun.set()
        await self.gate.wait()
        return await self._inner.dial()


class Crossing:
    """Networks that lead to one controller, where a device has one link: the newest."""

    def __init__(self, endpoint: Endpoint, names: Sequence[str]) -> None:
        self.networks = {name: MemoryNetwork(_Gateway(endpoint, self, name)) for name in names}

    async def connected(self, device: str, name: str) -> None:
        """A link has come up over that network: the others' are replaced."""
        for other, network in self.networks.items():
            if other != name:
                await network.disconnect(device)

    def linked(self, device: str) -> list[str]:
        """The networks over which the device has a link."""
        return [name for name, one in self.networks.items() if device in one.connected()]


class _Gateway:
    """One network's way into the controller."""

    def __init__(self, endpoint: Endpoint, crossing: Crossing, name: str) -> None:
        self._endpoint, self._crossing, self._name = endpoint, crossing, name
        self.admit = endpoint.admit
        self.call = endpoint.call
        self.fetch = endpoint.fetch
        self.publish = endpoint.publish

    async def connected(self, device: str) -> None:
        await self._crossing.connected(device, self._name)
        await self._endpoint.connected(device)

    async def disconnected(self, device: str) -> None:
        if not self._crossing.linked(device):
            await self._endpoint.disconnected(device)


@asynccontextmanager
async def running(connection: Connection) -> AsyncIterator[None]:
    task = asyncio.create_task(connection.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def link_of(connection: Connection) -> Link:
    return await asyncio.wait_for(connection.link(), DEADLINE)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - a condition, with a deadline
            await asyncio.sleep(0)


async def turns(count: int) -> None:
    """So many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)
