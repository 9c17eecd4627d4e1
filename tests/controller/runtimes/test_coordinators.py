"""Coordinators as processes: they hear news, are heard, and end with who started them."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from controller.errors import StoreError
from controller.federated.errors import FlowerMissing
from controller.runtimes.coordinators import MOST_LOG_BYTES, CoordinatorProcesses

PRETEND = "tests.controller.runtimes.pretend_coordinator"


class Bell:
    """Rings each time that devices have to be told."""

    def __init__(self) -> None:
        self._rung = asyncio.Semaphore(0)

    def ring(self) -> None:
        self._rung.release()

    async def rings(self) -> None:
        async with asyncio.timeout(30):
            await self._rung.acquire()


async def test_a_coordinator_hears_news_and_is_heard(tmp_path: Path) -> None:
    bell = Bell()
    made = await CoordinatorProcesses(tmp_path, tmp_path / "logs", PRETEND).start("r1", bell.ring)
    await bell.rings()
    made.wake()
    await bell.rings()
    made.kill()
    made.wake()  # it has gone: nothing happens

    async with asyncio.timeout(30):
        assert await made.ended() == -signal.SIGKILL
    made.kill()
    log = tmp_path / "logs" / "r1.log"
    assert log.read_text() == f"--home {tmp_path} --run r1\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_coordinator_ends_when_nobody_holds_its_input(tmp_path: Path) -> None:
    bell = Bell()
    made = await CoordinatorProcesses(tmp_path, tmp_path, PRETEND).start("r1", bell.ring)
    await bell.rings()
    assert made._process.stdin is not None
    made._process.stdin.close()

    async with asyncio.timeout(30):
        assert await made.ended() == 7


async def test_what_a_coordinator_has_forked_is_ended_with_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "left")
    bell = Bell()
    made = await CoordinatorProcesses(tmp_path, tmp_path, PRETEND).start("forks", bell.ring)
    await bell.rings()
    left = await asyncio.to_thread((tmp_path / "left").open, "rb")

    made.kill()

    async with asyncio.timeout(30):
        assert await made.ended() == -signal.SIGKILL
        assert await asyncio.to_thread(left.read) == b""
    left.close()


async def test_a_long_log_begins_anew_and_a_short_one_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "r1.log"
    for before, after in ((b"before\n", b"before\n"), (b"x" * (MOST_LOG_BYTES + 1), b"")):
        log.write_bytes(before)
        bell = Bell()
        made = await CoordinatorProcesses(tmp_path, tmp_path, PRETEND).start("r1", bell.ring)
        await bell.rings()
        made.kill()
        await made.ended()
        assert log.read_bytes() == after + f"--home {tmp_path} --run r1\n".encode()


async def test_without_flower_none_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)

    with pytest.raises(FlowerMissing):
        await CoordinatorProcesses(tmp_path, tmp_path).start("r1", lambda: None)


async def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    processes = CoordinatorProcesses(tmp_path, tmp_path / "logs", PRETEND)

    with pytest.raises(StoreError, match="logs"):
        await processes.start("r1", lambda: None)
