"""Routes come and go under an agent that sends: every record arrives once, and the last word is heard."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.identity.keys import generate_key, public_key
from agent.telemetry.loop import UploadLoop
from agent.telemetry.record import event_record
from agent.transport import controller_client
from agent.transport.connection import Connection
from agent.transport.link import Link
from agent.transport.route import Route
from controller.errors import DeviceOffline
from controller.fleet.device import Device
from controller.telemetry.actions import upload
from controller.transport.dispatch import Dispatch
from protos.methods import UPLOAD
from protos.v1 import telemetry_pb2
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_store import MemoryStore
from tests.agent.transport.crossing import PATIENCE, Crossing, turns, until
from tests.contracts.centre import directive

START = datetime(2030, 1, 1, tzinfo=UTC)
NOW_MS = int(START.timestamp() * 1000)
DEVICE = "d1"
ROUTES = ("grpc", "mqtt")
WEATHER = [f"{what} {route}" for what in ("isolate", "restore", "cut") for route in ROUTES]
DOINGS = st.sampled_from([*WEATHER, "tell", "direct"])
STEPS = st.lists(st.tuples(DOINGS, st.integers(0, 60)), max_size=60)


class AtOnce(ThreadPoolExecutor):
    """No threads: so that one seed is one course of events."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is whoever waits who is told
            done.set_exception(error)
        return done


class Hasty:
    """A clock whose sleeps end after a few turns of the event loop, however long they are."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._now = START

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    async def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        await turns(self._rng.randrange(1, 12))


class World:
    """A controller that can be reached over two networks, and a device that tells it events."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)  # noqa: S311 - no secret depends on it
        self.store = MemoryStore()
        with self.store.begin() as tx:
            key = public_key(generate_key())
            tx.devices.put(Device(DEVICE, START.timestamp(), key, "ff", 2e9))
        endpoint = Dispatch(
            actions={UPLOAD.name: self._upload},
            listeners={},
            admission=self._admit,
            arrival=self._arrived,
            departure=self._departed,
            blobs=self._no_blobs,
        )
        self.networks = Crossing(endpoint, ROUTES).networks
        clock = Hasty(self.rng)
        self.spooling = MemoryDeviceStore()
        self.connection = Connection(
            [Route(name, one.dialer(DEVICE)) for name, one in self.networks.items()],
            clock,
            self.rng,
            self._on_command,
            self._on_up,
            PATIENCE,
        )
        self.uploads = UploadLoop(self.spooling, self._send, clock, self.rng)
        self.told: list[str] = []
        self.newest = 0
        self.heard: list[bytes] = []
        self.asked = self.stored = self.answered = 0
        self.ups: list[str] = []

    def tell(self) -> None:
        """The device has something to tell."""
        self.told.append(f"event.{len(self.told)}")
        with self.spooling.transaction():
            self.spooling.spool.put("event", event_record(self.told[-1], "info", NOW_MS), NOW_MS)
        self.uploads.wake()

    async def direct(self) -> None:
        """The controller has something to say: over whatever link there is, and else at the next one."""
        self.newest += 1
        await self._say()

    def arrived(self) -> list[str]:
        """The events that the controller has stored, in order."""
        with self.store.begin() as tx:
            events = tx.telemetry.events(DEVICE, limit=100_000)
        return [event.name for event in sorted(events, key=lambda one: one.sequence)]

    async def do(self, what: str) -> None:
        """One change of the weather, or one thing to say."""
        if what == "tell":
            self.tell()
        elif what == "direct":
            await self.direct()
        else:
            change, _, route = what.partition(" ")
            getattr(self.networks[route], change)(DEVICE)

    async def _say(self) -> None:
        for network in self.networks.values():
            with suppress(DeviceOffline):
                await network.send(DEVICE, directive(self.newest))

    async def _upload(self, device: str, request: bytes) -> bytes:
        self.asked += 1
        await turns(self.rng.randrange(12))  # the link may go meanwhile
        reply = upload(self.store, device, request, START.timestamp())
        self.stored += 1
        await turns(self.rng.randrange(12))
        self.answered += 1
        return reply

    async def _admit(self, device: str, certificate_serial: str) -> None:
        assert (device, certificate_serial) == (DEVICE, "1")
        await turns(self.rng.randrange(4))

    async def _arrived(self, _: str) -> None:
        await self._say()

    async def _departed(self, _: str) -> None:
        await turns(self.rng.randrange(4))

    def _no_blobs(self, *_: object) -> Any:
        raise NotImplementedError

    async def _on_up(self, link: Link) -> None:
        del link
        await turns(self.rng.randrange(4))
        self.uploads.link_up()

    async def _on_command(self, command: bytes) -> None:
        await turns(self.rng.randrange(4))
        self.heard.append(command)

    async def _send(self, request: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
        link = await self.connection.link()
        self.ups.append(self.connection.via)
        return await controller_client.upload(link, request)


async def lived_through(seed: int, steps: list[tuple[str, int]]) -> World:
    """The world once the weather is over and all has been said."""
    asyncio.get_running_loop().set_default_executor(AtOnce())
    world = World(seed)
    async with asyncio.TaskGroup() as group:
        loops = [group.create_task(one) for one in (world.connection.run(), world.uploads.run())]
        for what, lull in steps:
            await world.do(what)
            await turns(lull)
        for network in world.networks.values():
            network.restore(DEVICE)
        world.tell()
        await world.direct()
        last = directive(world.newest)
        await until(lambda: not len(world.spooling.spool) and last in world.heard)
        for loop in loops:
            loop.cancel()
    return world


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), steps=STEPS)
def test_every_record_arrives_once_and_in_order_however_the_routes_flap(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    world = asyncio.run(lived_through(seed, steps))

    assert world.arrived() == world.told


def test_in_a_long_storm_uploads_are_cut_at_every_point_and_go_both_ways(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = Random(4)  # noqa: S311 - no secret depends on it
    doings = [*WEATHER, "restore grpc", "restore mqtt", "tell", "tell", "tell", "direct"]
    steps = [(rng.choice(doings), rng.randrange(40)) for _ in range(4000)]

    with caplog.at_level(logging.INFO, "agent.transport.connection"):
        world = asyncio.run(lived_through(5, steps))

    assert world.arrived() == world.told
    # The storm was one: requests were lost before they were stored, replies after, on both routes.
    assert len(world.ups) > 500
    assert min(world.ups.count(route) for route in ROUTES) > 100
    assert world.asked - world.stored > 20
    assert world.stored - world.answered > 20
    assert caplog.text.count("connection.moved from=mqtt to=grpc") > 20
