"""What has served its time is removed, in portions, and a failure does not end the loop."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from controller.errors import StoreError
from controller.fleet.device import Device
from controller.registry.version import Model, State, Version
from controller.retention import actions
from controller.retention.loop import RetentionLoop
from controller.telemetry.record import StoredReport, StoredWindow
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.controller.rollout.world import manifest

START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WINDOW = StoredWindow(
    device="dev-1",
    spool="spool",
    sequence=1,
    model="digits",
    version=1,
    profile_sha256="p" * 64,
    window_id="w1",
    started_ms=0,
    ended_ms=int((START - 30 * DAY).timestamp() * 1000),
    rows=50,
    verdict=2,
    payload=b"",
)


class SteppedClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self._now = START
        self.asleep = asyncio.Event()
        self._wake = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    def set_to(self, moment: datetime) -> None:
        self._now = moment

    async def sleep(self, seconds: float) -> None:
        until = self._now + timedelta(seconds=seconds)
        while self._now < until:
            self._wake.clear()
            self.asleep.set()
            await self._wake.wait()

    async def advance(self, by: timedelta) -> None:
        await asyncio.wait_for(self.asleep.wait(), 10)
        self.asleep.clear()
        self._now += by
        self._wake.set()
        await asyncio.wait_for(self.asleep.wait(), 10)


def retention(
    store: MemoryStore, clock: SteppedClock, blobs: MemoryControllerBlobs | None = None
) -> RetentionLoop:
    return RetentionLoop(store, blobs or MemoryControllerBlobs(), clock, 30 * DAY)


async def test_records_end_when_they_are_older_than_the_retention() -> None:
    store, clock = MemoryStore(), SteppedClock()
    with store.begin() as tx:
        tx.telemetry.add_windows(
            [WINDOW, replace(WINDOW, sequence=2, window_id="w2", ended_ms=2**50)]
        )
    loop = asyncio.create_task(retention(store, clock).run())

    await asyncio.wait_for(clock.asleep.wait(), 10)
    with store.begin() as tx:
        assert tx.telemetry.window_count() == 2
    await clock.advance(timedelta(hours=1))

    with store.begin() as tx:
        assert [one.window_id for one in tx.telemetry.windows("digits")] == ["w2"]
    loop.cancel()


async def test_a_failed_turn_is_logged_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, clock = MemoryStore(), SteppedClock()
    store.close()
    loop = asyncio.create_task(retention(store, clock).run())

    await clock.advance(timedelta(hours=1))

    assert not loop.done()
    assert caplog.text.count("retention.failed what=telemetry") == 2
    assert caplog.text.count("retention.failed what=blobs") == 2
    assert StoreError.__name__ in caplog.text
    loop.cancel()


def test_no_transaction_removes_more_than_a_portion() -> None:
    store = MemoryStore()
    count = 2 * actions.PORTION + 1
    with store.begin() as tx:
        tx.telemetry.add_windows(
            [replace(WINDOW, sequence=n, window_id=str(n)) for n in range(count)]
        )

    removed = list(actions.expire_telemetry(store, 2**50))

    assert removed == [actions.PORTION, actions.PORTION, 1]


async def test_of_every_device_the_newest_reports_stay() -> None:
    store = MemoryStore()
    newest = actions.REPORTS_KEPT + 3
    with store.begin() as tx:
        tx.devices.put(Device("dev-1", 1.0, b"pem", "ff", 2.0))
        for counter in range(1, newest + 1):
            tx.telemetry.add_report(StoredReport("dev-1", counter, 1, 1, 1.0, b"envelope"))

    await retention(store, SteppedClock()).turn()

    with store.read() as tx:
        kept = [one.counter for one in tx.telemetry.reports("dev-1", newest)]
    assert kept == list(range(newest, 3, -1))


async def test_blobs_that_no_version_names_go_after_a_day() -> None:
    store, blobs, clock = MemoryStore(), MemoryControllerBlobs(), SteppedClock()
    model, stray = blobs.put(b"model"), blobs.put(b"left by a registration that was cut short")
    made = manifest("digits", 1)
    files = {role: msgspec.structs.replace(file, sha256=model) for role, file in made.files.items()}
    made = msgspec.structs.replace(made, files=files)
    encoded = blobs.put(made.encode())
    with store.begin() as tx:
        tx.registry.put_model(Model("digits", 1.0, 1))
        tx.registry.put_version(
            Version("digits", 1, State.REJECTED, made.encode(), made.digest, 1.0, "ada")
        )

    await retention(store, clock, blobs).turn()

    assert (blobs.has(model), blobs.has(encoded), blobs.has(stray)) == (True, True, False)


async def test_blobs_of_a_registration_that_is_under_way_stay() -> None:
    blobs, clock = MemoryControllerBlobs(), SteppedClock()
    fresh = blobs.put(b"model")
    clock.set_to(datetime.now(UTC) + timedelta(hours=23))

    await retention(MemoryStore(), clock, blobs).turn()

    assert blobs.has(fresh)
