"""Old telemetry is removed when its time has come, and a failure does not end the loop."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import StoreError
from controller.telemetry.loop import ExpiryLoop
from controller.telemetry.record import StoredWindow
from simulations.memory_store import MemoryStore

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


async def test_records_end_when_they_are_older_than_the_retention() -> None:
    store, clock = MemoryStore(), SteppedClock()
    with store.begin() as tx:
        tx.telemetry.add_windows(
            [WINDOW, replace(WINDOW, sequence=2, window_id="w2", ended_ms=2**50)]
        )
    loop = asyncio.create_task(ExpiryLoop(store, clock, 30 * DAY).run())

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
    loop = asyncio.create_task(ExpiryLoop(store, clock, 30 * DAY).run())

    await clock.advance(timedelta(hours=1))

    assert not loop.done()
    assert caplog.text.count("telemetry.expiry-failed") == 2
    assert StoreError.__name__ in caplog.text
    loop.cancel()
