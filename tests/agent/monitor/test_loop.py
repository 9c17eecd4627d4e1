import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.inference.traffic import TrafficCounts
from agent.monitor.counts import Counts
from agent.monitor.finding import Verdict
from agent.monitor.loop import ORPHAN_SECONDS, MonitorLoop
from agent.monitor.observer import Observer
from agent.monitor.reference import Reference
from agent.monitor.wire import read_window, verdict_of
from agent.monitor.wishes import Wishes
from agent.store.device_store import SpoolRecord
from agent.store.sqlite_store import SqliteStore
from protos.documents import Assignment, Directive, Watching
from protos.envelope import seal
from protos.keys import CryptoSigner
from protos.v1 import telemetry_pb2
from simulations.memory_device_store import Contents, MemoryDeviceStore, MemoryWindowStore
from tests.agent.monitor import profiles

ROOT = Path(__file__).resolve().parents[3]


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept = asyncio.Event()

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def turn(self) -> None:
        """Returns when the loop sleeps again."""
        self.slept.clear()
        async with asyncio.timeout(30):
            await self.slept.wait()

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept.set()
        await asyncio.sleep(0)


@dataclass
class Running:
    """A version that answers requests: a real observer, fed as inference feeds it."""

    digest: str = "a" * 64
    reference: Reference = field(default_factory=profiles.reference)
    model: str = "pump"
    version: int = 1

    def __post_init__(self) -> None:
        self.manifest_sha256 = self.digest
        self.observer = Observer(self.reference)
        self.fresh = TrafficCounts()
        self.rng = np.random.default_rng(int(self.digest[0], 16))

    def serve(self, rows: int, shift: float = 0.0) -> None:
        x = profiles.features(self.rng, rows, shift)
        colour = profiles.colours(self.rng, rows)
        self.observer.observe(profiles.inputs(x, colour), profiles.answers(x))
        self.fresh = TrafficCounts(requests=self.fresh.requests + rows)

    def drain_traffic(self) -> TrafficCounts:
        fresh, self.fresh = self.fresh, TrafficCounts()
        return fresh


@dataclass
class Serving:
    """What answers requests now."""

    versions: list[Running]

    def watched(self) -> list[Running]:
        return list(self.versions)


def told(
    records: "list[SpoolRecord] | Any",
) -> tuple[list[telemetry_pb2.Window], list[telemetry_pb2.Event]]:
    messages = [telemetry_pb2.Record.FromString(one.payload) for one in records]
    windows = [one.window for one in messages if one.HasField("window")]
    return windows, [one.event for one in messages if one.HasField("event")]


def spooled(store: Any) -> tuple[list[telemetry_pb2.Window], list[telemetry_pb2.Event]]:
    return told(store.spool.batch(10_000, 2**30))


def test_a_window_closes_is_judged_and_told_once() -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    loop = MonitorLoop(store, Serving([one]), clock)
    for _ in range(11):
        one.serve(40)
        loop.tick()
        clock.seconds += 1
    loop.tick()

    windows, events = spooled(store)

    (window,) = windows
    assert (window.model, window.version, window.rows) == ("pump", 1, 440)
    assert verdict_of(window.verdict) is Verdict.OK
    assert window.traffic.requests == 440
    assert window.profile_sha256 == one.reference.digest
    assert events == []


def test_a_directive_says_how_often_a_version_is_judged_and_the_owner_goes_before() -> None:
    asked: dict[str, Watching] = {}
    for owner, rows in ((0, 200), (100, 100)):
        store, clock, one = MemoryDeviceStore(), HandClock(), Running()
        asked.clear()
        loop = MonitorLoop(
            store, Serving([one]), clock, rows=owner, seconds=1.0, wishes=lambda: asked
        )
        asked[one.manifest_sha256] = Watching(rows=200)
        while not spooled(store)[0]:
            one.serve(20)
            loop.tick()
            clock.seconds += 1

        (window,), _ = spooled(store)
        assert rows <= window.rows < rows + 40
        assert verdict_of(window.verdict) is not Verdict.INSUFFICIENT_DATA


def test_the_newest_directive_is_what_counts_and_one_that_is_damaged_wishes_for_nothing() -> None:
    wanted = Assignment(model="m", version=1, target="t", sha256="a", length=1)
    watched = msgspec.structs.replace(wanted, watching=Watching(rows=70, seconds=5.0))
    director = CryptoSigner.generate_ed25519()
    envelopes = [b""]
    wishes = Wishes(lambda: envelopes[-1])
    assert wishes() == {}
    for assignments in ((watched,), (wanted,), (watched,)):
        directive = Directive(device="d", generation=1, issued_at=1, assignments=assignments)
        envelopes.append(seal(directive, director))
        assert wishes() == {one.sha256: one.watching for one in assignments if one is watched}
    envelopes.append(b"\x0a\xff")
    assert wishes() == {}


def test_an_urgent_change_is_told_with_its_window_and_taken_back_when_it_is_over() -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    loop = MonitorLoop(store, Serving([one]), clock, seconds=1.0)
    for shift in (0.0, 3.0, 3.0, 0.0, 0.0):
        one.serve(500, shift)
        loop.tick()
        clock.seconds += 1
        loop.tick()

    windows, events = spooled(store)

    verdicts = [verdict_of(window.verdict).value for window in windows]
    assert verdicts == ["ok", "drift", "drift", "ok", "ok"]
    assert [event.name for event in events] == ["monitor.drift", "monitor.ok"]
    assert events[0].fields["window_id"] == windows[1].window_id
    assert events[0].severity == "error"


def test_a_window_whose_longest_time_is_over_says_insufficient_data() -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    loop = MonitorLoop(store, Serving([one]), clock)
    one.serve(20)
    loop.tick()
    clock.seconds += 3600
    loop.tick()

    (window,), _ = spooled(store)

    assert verdict_of(window.verdict) is Verdict.INSUFFICIENT_DATA


def test_a_version_that_goes_leaves_nothing_untold() -> None:
    store, clock = MemoryDeviceStore(), HandClock()
    old, new = Running("b" * 64), Running("c" * 64, version=2)
    running = Serving([old])
    loop = MonitorLoop(store, running, clock)
    old.serve(100)
    loop.tick()
    running.versions = [new]
    old.serve(5)  # requests that were under way
    loop.tick()
    loop.tick()

    (window,), _ = spooled(store)

    assert (window.version, window.rows) == (1, 105)
    assert list(store.windows.checkpoints()) == []


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


class BrokenObserver(Observer):
    """What a mistake in counting would be like."""

    def drain(self) -> Counts:
        raise ZeroDivisionError("a bug")


async def test_a_version_that_can_not_be_counted_keeps_no_other_from_being(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, clock = MemoryDeviceStore(), HandClock()
    broken_one, one = Running(digest="b" * 64, version=2), Running()
    broken_one.observer = BrokenObserver(broken_one.reference)
    loop = MonitorLoop(store, Serving([broken_one, one]), clock)
    running = asyncio.create_task(loop.run())
    one.serve(400)
    async with asyncio.timeout(30):
        while not len(store.spool):
            await clock.turn()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    (window,), _ = spooled(store)

    assert (window.version, window.rows) == (1, 400)
    assert caplog.text.count("monitor.uncounted") == 1


async def test_no_request_waits_while_a_window_is_judged_and_written() -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    threads = set[int]()
    drain = one.drain_traffic

    def noted() -> TrafficCounts:
        threads.add(threading.get_ident())
        return drain()

    one.drain_traffic = noted  # type: ignore[method-assign]
    running = asyncio.create_task(MonitorLoop(store, Serving([one]), clock).run())
    while not threads:
        await clock.turn()
    running.cancel()
    await asyncio.wait([running])

    assert threading.get_ident() not in threads


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


def kept(contents: Contents) -> int:
    """Rows that are safe: told, or in an open window."""
    windows, _ = told([contents.spool[key] for key in sorted(contents.spool)])
    open_windows = [value for key, value in contents.windows.items() if "#" not in key]
    return sum(window.rows for window in windows) + sum(
        read_window(value).counts.rows for value in open_windows
    )


SERVING = """
import sys, time
from pathlib import Path
from agent.monitor.reference import read_reference
from agent.clock import SystemClock
from agent.monitor.loop import MonitorLoop
from agent.store.sqlite_store import SqliteStore
from tests.agent.monitor.test_loop import Running, Serving

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


async def test_what_was_answered_when_the_loop_had_ended_is_kept_too() -> None:
    store, clock, one = MemoryDeviceStore(), HandClock(), Running()
    loop = MonitorLoop(store, Serving([one]), clock)
    running = asyncio.create_task(loop.run())
    await clock.slept.wait()
    one.serve(15)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    one.serve(2)
    loop.keep()

    saved = store.windows.checkpoints()[one.manifest_sha256]

    assert read_window(saved).counts.rows == 17
