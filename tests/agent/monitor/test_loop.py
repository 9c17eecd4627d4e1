"""Windows close, are judged and are told, while requests go on."""

import asyncio
import threading

import msgspec
import pytest

from agent.inference.traffic import TrafficCounts
from agent.monitor.counts import Counts
from agent.monitor.finding import Verdict
from agent.monitor.loop import MonitorLoop
from agent.monitor.observer import Observer
from agent.monitor.wire import read_window, verdict_of
from agent.monitor.wishes import Wishes
from protos.documents import Assignment, Directive, Watching
from protos.envelope import seal
from protos.keys import CryptoSigner
from simulations.memory_device_store import MemoryDeviceStore
from tests.agent.monitor.watched import HandClock, Running, Serving, spooled


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
