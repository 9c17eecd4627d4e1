import asyncio
import logging
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from agent.errors import NotEnrolled, StoreError
from agent.identity import keys
from agent.identity.loop import keep_renewed
from agent.store.device_store import Identity
from simulations.memory_device_store import MemoryDeviceStore, MemoryIdentityStore
from tests.agent.identity.enrolment import NOW, Controller, enrol


class JumpingClock:
    """Time that passes only while somebody sleeps, until ``end``; then the sleeper is cancelled."""

    def __init__(self, controller: Controller, end: datetime) -> None:
        self._controller = controller
        self._end = end
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return self._controller.now

    def monotonic(self) -> float:
        return self._controller.now.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self._controller.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)
        if self._controller.now >= self._end:
            raise asyncio.CancelledError


def rng() -> Random:
    return Random(5)  # noqa: S311 - no secret depends on it


async def run(
    controller: Controller, store: MemoryDeviceStore, key_path: Path, days: float
) -> tuple[list[Identity], JumpingClock]:
    renewed: list[Identity] = []
    clock = JumpingClock(controller, NOW + timedelta(days=days))
    with pytest.raises(asyncio.CancelledError):
        await keep_renewed(key_path, store, clock, rng(), controller.enrolment.dial, renewed.append)
    return renewed, clock


async def test_for_months_the_certificate_never_expires(
    controller: Controller, store: MemoryDeviceStore, tmp_path: Path
) -> None:
    first = await enrol(controller, store, tmp_path / "key")
    renewed, clock = await run(controller, store, tmp_path / "key", days=120)
    chain = [keys.read_certificate(one.certificate_pem) for one in (first, *renewed)]

    assert 5 <= len(renewed) <= 6  # every 20 to 22.5 days
    assert all(
        later.not_before < earlier.not_after - timedelta(days=7)
        for earlier, later in pairwise(chain)
    )
    assert chain[-1].not_after > controller.now
    assert max(clock.sleeps) <= 3600


async def test_a_controller_that_is_down_is_asked_less_and_less_often_until_it_is_back(
    controller: Controller,
    store: MemoryDeviceStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await enrol(controller, store, tmp_path / "key")
    controller.enrolment.lose_replies = True
    with caplog.at_level(logging.WARNING, "agent.identity.loop"):
        renewed, _ = await run(controller, store, tmp_path / "key", days=29)
    assert renewed == []
    attempts = [one for one in caplog.messages if "renewal-failed" in one]
    assert 100 < len(attempts) < 1500  # half an hour apart in the mean, over a week and more

    controller.enrolment.lose_replies = False
    renewed, _ = await run(controller, store, tmp_path / "key", days=31)
    assert len(renewed) == 1


async def test_a_device_that_was_away_renews_its_expired_certificate(
    controller: Controller, store: MemoryDeviceStore, tmp_path: Path
) -> None:
    await enrol(controller, store, tmp_path / "key")
    controller.now = NOW + timedelta(days=80)
    renewed, _ = await run(controller, store, tmp_path / "key", days=80.01)

    assert len(renewed) == 1


async def test_a_revoked_device_goes_on_and_logs_the_remedy(
    controller: Controller,
    store: MemoryDeviceStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    identity = await enrol(controller, store, tmp_path / "key")
    controller.revoke(identity.device)
    with caplog.at_level(logging.WARNING, "agent.identity.loop"):
        renewed, _ = await run(controller, store, tmp_path / "key", days=24)

    assert renewed == []
    assert any("device-revoked" in one and "enrol it anew" in one for one in caplog.messages)


async def test_a_clock_far_ahead_does_not_make_it_renew_without_a_pause(
    controller: Controller, store: MemoryDeviceStore, tmp_path: Path
) -> None:
    await enrol(controller, store, tmp_path / "key")
    ahead = JumpingClock(controller, NOW + timedelta(hours=1))
    ahead.now = lambda: controller.now + timedelta(days=25)  # type: ignore[method-assign]
    renewed: list[Identity] = []
    with pytest.raises(asyncio.CancelledError):
        await keep_renewed(
            tmp_path / "key", store, ahead, rng(), controller.enrolment.dial, renewed.append
        )

    assert len(renewed) == 60  # one a minute


class FailingDisk(MemoryIdentityStore):
    """Can't be read as often as it is told."""

    failures = 0

    def load(self) -> Identity | None:
        if self.failures:
            self.failures -= 1
            raise StoreError("the disk is away")
        return super().load()


async def test_a_disk_that_can_not_be_read_for_a_while_ends_nothing(
    controller: Controller, store: MemoryDeviceStore, tmp_path: Path
) -> None:
    await enrol(controller, store, tmp_path / "key")
    disk = FailingDisk(store)
    store.identity = disk
    disk.failures = 20

    renewed, _ = await run(controller, store, tmp_path / "key", days=24)

    assert disk.failures == 0
    assert len(renewed) == 1


async def test_without_an_identity_there_is_nothing_to_keep(
    controller: Controller, store: MemoryDeviceStore, tmp_path: Path
) -> None:
    clock = JumpingClock(controller, NOW + timedelta(days=1))
    with pytest.raises(NotEnrolled):
        await keep_renewed(tmp_path / "key", store, clock, rng(), controller.enrolment.dial)
