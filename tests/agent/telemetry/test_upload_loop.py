"""The spool reaches a real controller's store in order and once, over a network that fails."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import Refused, TransportError
from agent.identity.keys import generate_key, public_key
from agent.store.device_store import DeviceStore
from agent.store.sqlite_store import SqliteStore
from agent.telemetry.loop import UploadLoop
from agent.telemetry.record import event_record
from agent.transport.backoff import Backoff
from controller.errors import ControllerError
from controller.fleet.device import Device
from controller.telemetry.actions import upload
from protos.v1 import telemetry_pb2
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_store import MemoryStore

START = datetime(2030, 1, 1, tzinfo=UTC)


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - chance that a test can repeat


class LeapingClock:
    """Every sleep ends at once and moves the time; what was slept is remembered."""

    def __init__(self) -> None:
        self._now = START
        self._slept = asyncio.Event()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    async def sleep(self, seconds: float) -> None:
        self._note(seconds)
        self._now += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    def _note(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._slept.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looks again whenever the loop goes to rest."""
        async with asyncio.timeout(10):
            while not condition():
                self._slept.clear()
                await self._slept.wait()


class StoppedClock(LeapingClock):
    """No sleep ever ends."""

    async def sleep(self, seconds: float) -> None:
        self._note(seconds)
        await asyncio.Event().wait()


class Network:
    """Carries uploads to a controller; ``fate`` decides what becomes of each."""

    def __init__(self, fate: Callable[[int], str] = lambda _: "") -> None:
        self.store = MemoryStore()
        with self.store.begin() as tx:
            key = public_key(generate_key())
            tx.devices.put(Device("dev-1", START.timestamp(), key, "ff", 2e9))
        self._fate = fate
        self.uploads: list[list[int]] = []

    async def __call__(self, request: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
        turn = len(self.uploads)
        self.uploads.append([record.sequence for record in request.records])
        fate = self._fate(turn)
        if fate == "request lost":
            raise TransportError("no answer")
        try:
            reply = upload(self.store, "dev-1", request.SerializeToString(), START.timestamp())
        except ControllerError as error:
            raise Refused(error.code, error.detail, error.remedy) from error
        if fate == "reply lost":
            raise TransportError("no answer")
        return telemetry_pb2.UploadReply.FromString(reply)

    def names(self) -> list[str]:
        with self.store.begin() as tx:
            events = tx.telemetry.events("dev-1", limit=10_000)
        return [event.name for event in sorted(events, key=lambda one: one.sequence)]


@pytest.fixture(params=["memory", "sqlite"])
def spooling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeviceStore]:
    opened: DeviceStore
    opened = MemoryDeviceStore() if request.param == "memory" else SqliteStore(tmp_path)
    yield opened
    opened.close()


def put(store: DeviceStore, *names: str) -> None:
    with store.transaction():
        for name in names:
            store.spool.put("event", event_record(name, "info", 1), 1)


async def test_what_waits_is_sent_in_order_and_forgotten(spooling: DeviceStore) -> None:
    network = Network()
    names = [f"event.{number}" for number in range(700)]
    put(spooling, *names)

    await UploadLoop(spooling, network, LeapingClock(), chance(1)).drain()

    assert network.names() == names
    assert [len(sent) for sent in network.uploads] == [512, 188]
    assert len(spooling.spool) == 0


async def test_devices_that_were_switched_on_together_do_not_send_together_for_ever() -> None:
    clocks = [LeapingClock() for _ in range(20)]
    loops = [
        UploadLoop(MemoryDeviceStore(), Network(), clock, chance(seed), interval=60.0)
        for seed, clock in enumerate(clocks)
    ]
    running = [asyncio.create_task(loop.run()) for loop in loops]
    for clock in clocks:
        await clock.until(lambda clock=clock: len(clock.slept) >= 10)  # type: ignore[misc]
    for task in running:
        task.cancel()
    await asyncio.wait(running)

    tenth = sorted(sum(clock.slept[:10]) for clock in clocks)
    assert tenth[-1] - tenth[0] > 60.0


@pytest.mark.parametrize("seed", range(6))
async def test_over_a_bad_network_every_record_is_stored_once(
    spooling: DeviceStore, seed: int
) -> None:
    fates = chance(seed)
    network = Network(lambda _: fates.choice(["request lost", "reply lost", ""]))
    names = [f"event.{number}" for number in range(40)]
    put(spooling, *names[:20])
    clock = LeapingClock()
    loop = UploadLoop(spooling, network, clock, chance(seed))
    running = asyncio.create_task(loop.run())
    await clock.until(lambda: len(network.uploads) > 0)
    put(spooling, *names[20:])

    await clock.until(lambda: len(spooling.spool) == 0)
    running.cancel()

    assert network.names() == names


async def test_a_controller_that_is_down_loses_nothing_and_is_asked_ever_less_often(
    spooling: DeviceStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent.telemetry.loop")
    network = Network(lambda turn: "request lost" if turn < 12 else "")
    clock = LeapingClock()
    put(spooling, "one", "two")
    loop = UploadLoop(spooling, network, clock, chance(3), backoff=Backoff(base=1.0, cap=60.0))
    running = asyncio.create_task(loop.run())

    await clock.until(lambda: len(spooling.spool) == 0)
    running.cancel()

    ceilings = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0]
    waited = clock.slept[:12]
    assert all(0 <= wait <= most for wait, most in zip(waited, ceilings, strict=True))
    assert len(set(waited)) == 12
    assert network.names() == ["one", "two"]
    said = [one for one in caplog.messages if one.startswith("telemetry.waits")]
    assert said == ["telemetry.waits attempt=0: no answer"]


async def test_a_wake_sends_at_once_and_nothing_is_sent_before(spooling: DeviceStore) -> None:
    network = Network()
    clock = StoppedClock()
    loop = UploadLoop(spooling, network, clock, chance(1), interval=60.0)
    running = asyncio.create_task(loop.run())
    await clock.until(lambda: len(clock.slept) == 1)

    put(spooling, "one")
    loop.wake()

    await clock.until(lambda: len(spooling.spool) == 0)
    await clock.until(lambda: len(clock.slept) == 2)
    assert all(48.0 <= seconds <= 72.0 for seconds in clock.slept)
    running.cancel()
    assert network.names() == ["one"]


async def test_a_wake_does_not_cut_a_back_off_short_and_a_new_link_does(
    spooling: DeviceStore,
) -> None:
    network = Network(lambda turn: "request lost" if turn == 0 else "")
    clock = StoppedClock()
    put(spooling, "one")
    loop = UploadLoop(spooling, network, clock, chance(1))
    running = asyncio.create_task(loop.run())
    await clock.until(lambda: len(clock.slept) == 1)

    loop.wake()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(network.uploads) == 1
    loop.link_up()

    await clock.until(lambda: len(spooling.spool) == 0)
    running.cancel()
    assert network.names() == ["one"]


async def test_a_record_that_is_torn_on_the_disk_is_told_of_and_stops_nothing(
    spooling: DeviceStore, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    put(spooling, "one")
    spooling.spool.put("window", b"\xff\xff", 1)
    put(spooling, "two")

    await UploadLoop(spooling, network, LeapingClock(), chance(1)).drain()

    assert network.names() == ["one", "two", "telemetry.lost"]
    assert len(spooling.spool) == 0
    assert "telemetry.lost kind=window" in caplog.text


class Picky(Network):
    """A controller that refuses every request with a certain record in it."""

    async def __call__(self, request: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
        if any(record.event.name == "poison" for record in request.records):
            self.uploads.append([record.sequence for record in request.records])
            raise Refused("invalid-input", "records: poison", "mend it")
        return await super().__call__(request)


async def test_a_record_that_makes_every_request_refused_is_found_told_of_and_dropped(
    spooling: DeviceStore,
) -> None:
    network = Picky()
    names = [f"event.{number}" for number in range(20)]
    put(spooling, *names[:13], "poison", *names[13:])
    clock = LeapingClock()
    loop = UploadLoop(spooling, network, clock, chance(1))
    running = asyncio.create_task(loop.run())

    await clock.until(lambda: "telemetry.lost" in network.names())
    running.cancel()

    assert network.names() == [*names, "telemetry.lost"]
    with network.store.begin() as tx:
        (lost,) = (one for one in tx.telemetry.events() if one.name == "telemetry.lost")
    assert (lost.code, lost.fields) == ("invalid-input", {"kind": "event"})


async def test_a_device_that_is_refused_keeps_everything(
    spooling: DeviceStore, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    with network.store.begin() as tx:
        tx.devices.put(Device("dev-1", 0.0, b"", "ff", 0.0))  # a key that nobody can read
    clock = LeapingClock()
    put(spooling, "one")

    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(UploadLoop(spooling, network, clock, chance(1)).run())
        await clock.until(lambda: len(network.uploads) >= 3)
        running.cancel()

    assert len(spooling.spool) == 1
    assert "telemetry.refused code=store" in caplog.text


async def test_a_reply_that_acknowledges_nothing_is_no_reason_to_hurry_or_forget(
    spooling: DeviceStore,
) -> None:
    async def deaf(_: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
        return telemetry_pb2.UploadReply()

    put(spooling, "one")

    with pytest.raises(TransportError, match="acknowledged nothing"):
        await UploadLoop(spooling, deaf, LeapingClock(), chance(1)).drain()

    assert len(spooling.spool) == 1


async def test_what_the_spool_dropped_is_told(spooling: DeviceStore) -> None:
    network = Network()
    spooling.spool.put("window", b"x" * (33 * 2**20), 1)
    put(spooling, "one")

    await UploadLoop(spooling, network, LeapingClock(), chance(1)).drain()

    with network.store.begin() as tx:
        assert tx.telemetry.dropped("dev-1") == {"window": 1}
