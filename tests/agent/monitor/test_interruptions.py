"""A restart, a kill, a power cut or a store that fails loses at most what was not yet saved."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.monitor.finding import Verdict
from agent.monitor.loop import ORPHAN_SECONDS, MonitorLoop
from agent.monitor.wire import read_window, verdict_of
from agent.store.sqlite_store import SqliteStore
from simulations.memory_device_store import Contents, MemoryDeviceStore, MemoryWindowStore
from tests.agent.monitor import profiles
from tests.agent.monitor.watched import HandClock, Running, Serving, kept, spooled

ROOT = Path(__file__).resolve().parents[3]


def test_a_restart_goes_on_with_the_open_window() -> None:
    contents, clock = Contents(), HandClock()
    before, one = MemoryDeviceStore(contents=contents), Running()
    loop = MonitorLoop(before, Serving([one]), clock)
    one.serve(200)
    loop.tick()
    clock.seconds += 20
    again = Running()
    after = MemoryDeviceStore(contents=contents)
    loop = MonitorLoop(after, Serving([again]), clock)
    again.serve(150)
    loop.tick()

    (window,), _ = spooled(after)

    assert window.rows == 350
    assert window.ended_ms - window.started_ms == 20_000


def test_a_version_that_does_not_come_back_after_a_restart_is_told_at_last() -> None:
    contents, clock, one = Contents(), HandClock(), Running()
    loop = MonitorLoop(MemoryDeviceStore(contents=contents), Serving([one]), clock)
    one.serve(400)
    loop.tick()
    store = MemoryDeviceStore(contents=contents)
    loop = MonitorLoop(store, Serving([]), clock)
    loop.tick()
    assert spooled(store) == ([], [])
    clock.seconds += ORPHAN_SECONDS
    loop.tick()

    (window,), _ = spooled(store)

    assert window.rows == 400
    assert verdict_of(window.verdict) is Verdict.INSUFFICIENT_DATA
    assert store.windows.checkpoints() == {}, "nothing is left of a version that has gone"


def test_a_checkpoint_that_can_not_be_read_is_dropped_and_watching_goes_on() -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    store.windows.checkpoint(one.manifest_sha256, b"\xff\xff")
    store.windows.checkpoint("d" * 64 + "#alerts", b"{")
    loop = MonitorLoop(store, Serving([one]), clock)
    one.serve(10)
    loop.tick()

    kept = store.windows.checkpoints()

    assert list(kept) == [one.manifest_sha256]
    assert read_window(kept[one.manifest_sha256]).counts.rows == 10


class CountingWindows(MemoryWindowStore):
    """Counts what is written."""

    writes = 0

    def checkpoint(self, key: str, window: bytes) -> None:
        self.writes += 1
        super().checkpoint(key, window)


def test_open_windows_are_written_once_in_a_while_and_wholly_at_the_end() -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    store.windows = counting = CountingWindows(store)
    loop = MonitorLoop(store, Serving([one]), clock, checkpoint_seconds=10.0)
    for _ in range(25):
        one.serve(4)
        loop.tick()
        clock.seconds += 1
    assert counting.writes == 3

    one.serve(4)
    loop.keep()

    assert counting.writes == 4
    assert read_window(store.windows.checkpoints()[one.manifest_sha256]).counts.rows == 104


class PowerCut(BaseException):
    """Nothing runs after it."""


class Failing(MemoryDeviceStore):
    """The store, on a machine whose power goes at the n-th write."""

    def __init__(self, contents: Contents, at: int) -> None:
        super().__init__(contents=contents)
        self.left = at
        for part, names in ((self.spool, ["put"]), (self.windows, ["checkpoint", "discard"])):
            for name in names:
                setattr(part, name, self._counted(getattr(part, name)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise PowerCut
            return write(*arguments)

        return counted


def test_whenever_the_power_goes_each_window_is_told_once_and_what_was_saved_is_in_it() -> None:
    """Every write of a run is the last one once; a restart finds the rest."""
    for at in range(24):
        contents, clock = Contents(), HandClock()
        one = Running()
        saved = 0
        store: MemoryDeviceStore = Failing(contents, at)
        cut = False
        loop = MonitorLoop(store, Serving([one]), clock, seconds=2.0, checkpoint_seconds=0.0)
        for step in range(8):
            one.serve(110, 3.0 if step > 3 else 0.0)
            clock.seconds += 1
            try:
                loop.tick()
                saved = 110 * (step + 1) if not cut else saved + 110
            except PowerCut:
                cut = True
                saved = kept(contents)
                one = Running()
                store = MemoryDeviceStore(contents=contents)
                loop = MonitorLoop(
                    store, Serving([one]), clock, seconds=2.0, checkpoint_seconds=0.0
                )
        windows, events = spooled(store)
        identities = [window.window_id for window in windows]
        assert len(set(identities)) == len(identities)
        assert kept(contents) == saved
        assert len([event for event in events if event.name == "monitor.drift"]) == 1


SERVING = """
import sys, time
from pathlib import Path
from agent.monitor.reference import read_reference
from agent.clock import SystemClock
from agent.monitor.loop import MonitorLoop
from agent.store.sqlite_store import SqliteStore
from tests.agent.monitor.watched import Running, Serving

home = Path(sys.argv[1])
store = SqliteStore(home)
one = Running(reference=read_reference((home / "reference").read_bytes()))
loop = MonitorLoop(store, Serving([one]), SystemClock(), rows=50, seconds=0.01, checkpoint_seconds=0.0)
while True:
    one.serve(30)
    loop.tick()
    print(30, flush=True)
"""


def test_a_killed_process_loses_at_most_what_it_had_not_yet_saved(tmp_path: Path) -> None:
    (tmp_path / "reference").write_bytes(profiles.reference().encode())
    served = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVING, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(7):
            assert process.stdout.readline() == "30\n"
        os.kill(process.pid, signal.SIGKILL)
        served += 30 * (7 + len(process.stdout.readlines()))
        process.wait()
        process.stdout.close()
    store = SqliteStore(tmp_path)
    windows, _ = spooled(store)
    still_open = [
        read_window(value).counts.rows
        for key, value in store.windows.checkpoints().items()
        if "#" not in key
    ]
    store.close()

    identities = [window.window_id for window in windows]
    assert len(set(identities)) == len(identities) > 0
    # Each kill may have come between saving a turn and saying so.
    assert served <= sum(window.rows for window in windows) + sum(still_open) <= served + 2 * 30


@contextlib.contextmanager
def broken(store: MemoryDeviceStore) -> Iterator[None]:
    store._closed = True
    yield
    store._closed = False


async def test_a_store_that_fails_for_a_while_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    loop = MonitorLoop(store, Serving([one]), clock)
    running = asyncio.create_task(loop.run())
    with broken(store):
        one.serve(200)
        while "monitor.delayed" not in caplog.text:
            await clock.turn()
    one.serve(200)
    while not len(store.spool):
        await clock.turn()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    windows, _ = spooled(store)

    assert windows[0].rows == 400
