"""What every store of the controller promises of what devices tell."""

from dataclasses import replace
from functools import partial

import msgspec
import pytest

from controller.errors import Conflict
from controller.store.store import Store
from controller.telemetry.record import (
    WindowHead,
)
from tests.contracts.stored import EVENT, READING, REJECTIONS, REPORT, WINDOW, window


def test_the_cursor_of_each_spool_only_rises(store: Store) -> None:
    with store.begin() as tx:
        assert tx.telemetry.stored_through("dev-1", "a") == 0
        tx.telemetry.advance("dev-1", "a", 7, {})
        tx.telemetry.advance("dev-1", "a", 3, {})
        tx.telemetry.advance("dev-1", "b", 1, {})

    with store.begin() as tx:
        assert tx.telemetry.stored_through("dev-1", "a") == 7
        assert tx.telemetry.stored_through("dev-1", "b") == 1
        assert tx.telemetry.stored_through("dev-2", "a") == 0


def test_dropped_records_are_totals_of_each_spool_and_add_up_over_spools(store: Store) -> None:
    with store.begin() as tx:
        tx.telemetry.advance("dev-1", "a", 1, {"window": 5, "event": 1})
        tx.telemetry.advance("dev-1", "a", 2, {"window": 8})
        tx.telemetry.advance("dev-1", "a", 2, {"window": 6})
        tx.telemetry.advance("dev-1", "b", 1, {"window": 2})
        tx.telemetry.advance("dev-2", "a", 1, {"window": 100})

    with store.begin() as tx:
        assert tx.telemetry.dropped("dev-1") == {"event": 1, "window": 10}
        assert tx.telemetry.dropped("dev-3") == {}
        assert tx.telemetry.dropped() == {"event": 1, "window": 110}


def test_windows_come_by_their_end_and_by_what_is_asked_for(store: Store) -> None:
    late = window(1, ended_ms=9_000)
    early = window(2, ended_ms=1_000)
    other_version = window(3, ended_ms=5_000, version=2)
    other_device = window(4, ended_ms=6_000, device="dev-2")
    other_model = window(5, model="faces")

    with store.begin() as tx:
        tx.telemetry.add_windows([])
        tx.telemetry.add_windows([late, early, other_version, other_device, other_model])

    with store.begin() as tx:
        ask = tx.telemetry.windows
        assert list(ask("digits")) == [early, other_version, other_device, late]
        assert list(ask("digits", version=1)) == [early, other_device, late]
        assert list(ask("digits", device="dev-1")) == [early, other_version, late]
        assert list(ask("digits", since_ms=6_000)) == [other_device, late]
        assert list(ask("digits", 1, "dev-1", 1_001)) == [late]
        assert list(ask("nothing")) == []
        assert tx.telemetry.window_count() == 5


def test_newest_windows_are_as_few_of_each_device_as_are_enough(store: Store) -> None:
    old, middle, new = (window(n, ended_ms=1_000 * n) for n in (1, 2, 3))
    quiet = window(4, device="dev-0", ended_ms=500, rows=10)
    others = [
        window(5, version=2),
        window(6, model="faces"),
        window(7, profile_sha256="q" * 64, ended_ms=9_000),
        window(8, device="dev-2", profile_sha256="q" * 64),
    ]
    with store.begin() as tx:
        tx.telemetry.add_windows([old, middle, new, quiet, *others])

    with store.begin() as tx:
        ask = partial(tx.telemetry.newest_windows, "digits", 1, "p" * 64)
        assert list(ask(50)) == [quiet, new]
        assert list(ask(51)) == [quiet, new, middle]
        assert list(ask(1_000)) == [quiet, new, middle, old]
        assert list(ask(1_000, 2_000)) == [new, middle]
        assert list(tx.telemetry.newest_windows("digits", 3, "p" * 64, 50)) == []
        count = tx.telemetry.window_count
        assert (count("digits"), count("digits", 1), count("digits", 1, 2_000)) == (7, 6, 4)
        assert (count("nothing"), count(since_ms=9_000)) == (0, 1)


def test_a_devices_newest_window_is_told_in_short(store: Store) -> None:
    told = {"verdict": 3, "requests": 9, "failed": 2, "refused": 1}
    with store.begin() as tx:
        tx.telemetry.add_windows(
            [
                window(1, ended_ms=9_000, **told),
                window(2, ended_ms=3_000),
                window(3, ended_ms=9_000, device="dev-2", spool="a"),
                window(4, ended_ms=9_000, device="dev-2", spool="b", **told),
                window(5, ended_ms=9_999, version=2),
                window(6, ended_ms=4_000, device="dev-0"),
            ]
        )

    with store.read() as tx:
        found = tx.telemetry.newest_heads("digits", 1, 4_001)
        assert list(found) == [
            WindowHead("dev-1", "digits", 1, 9_000, 3, 9, 2, 1),
            WindowHead("dev-2", "digits", 1, 9_000, 3, 9, 2, 1),
        ]
        assert [one.device for one in tx.telemetry.newest_heads("digits", 1)] == [
            "dev-0",
            "dev-1",
            "dev-2",
        ]
        assert list(tx.telemetry.newest_heads("faces", 1)) == []


def test_of_windows_that_end_together_the_one_told_last_is_the_newest(store: Store) -> None:
    told = [window(1), window(2), replace(WINDOW, spool="a", window_id="x")]
    with store.begin() as tx:
        tx.telemetry.add_windows(told)

    with store.begin() as tx:
        found = tx.telemetry.newest_windows("digits", 1, "p" * 64, 50)

    assert list(found) == [told[1]]


def test_a_window_is_counted_once_whatever_comes_twice(store: Store) -> None:
    again_by_id = replace(WINDOW, spool="another", sequence=900)
    again_by_sequence = replace(WINDOW, window_id="another")
    elsewhere = replace(WINDOW, device="dev-2")

    with store.begin() as tx:
        tx.telemetry.add_windows([WINDOW, WINDOW])
    with store.begin() as tx:
        tx.telemetry.add_windows([again_by_id, again_by_sequence, elsewhere])

    with store.begin() as tx:
        assert list(tx.telemetry.windows("digits")) == [WINDOW, elsewhere]
        assert tx.telemetry.window_count() == 2


def test_events_and_readings_come_newest_first_and_once(store: Store) -> None:
    newer = replace(EVENT, sequence=9, recorded_ms=3_000, fields={"free": "12"})
    others = replace(EVENT, device="dev-2", recorded_ms=2_500)
    later = replace(READING, sequence=10, recorded_ms=4_000)

    with store.begin() as tx:
        tx.telemetry.add_events([EVENT, newer, EVENT, others])
        tx.telemetry.add_events([EVENT])
        tx.telemetry.add_resources([later, READING])
        tx.telemetry.add_resources([READING])

    with store.begin() as tx:
        assert list(tx.telemetry.events()) == [newer, others, EVENT]
        assert list(tx.telemetry.events("dev-1")) == [newer, EVENT]
        assert list(tx.telemetry.events(limit=1)) == [newer]
        assert list(tx.telemetry.resources("dev-1")) == [later]
        assert list(tx.telemetry.resources("dev-1", limit=9)) == [later, READING]
        assert list(tx.telemetry.resources("dev-2")) == []


def test_reports_are_evidence_and_their_counters_are_unique(store: Store) -> None:
    second = msgspec.structs.replace(REPORT, counter=2)

    with store.begin() as tx:
        tx.telemetry.add_report(REPORT)
        tx.telemetry.add_report(second)
    with pytest.raises(Conflict), store.begin() as tx:
        tx.telemetry.add_report(msgspec.structs.replace(REPORT, envelope=b"forged"))

    with store.begin() as tx:
        assert list(tx.telemetry.reports("dev-1")) == [second, REPORT]
        assert list(tx.telemetry.reports("dev-1", limit=1)) == [second]
        assert list(tx.telemetry.reports("dev-2")) == []


def test_what_is_too_old_expires_and_reports_and_cursors_stay(store: Store) -> None:
    kept = window(7, ended_ms=5_000)

    with store.begin() as tx:
        tx.telemetry.add_windows([WINDOW, kept])
        tx.telemetry.add_events([EVENT, replace(EVENT, sequence=9, recorded_ms=5_000)])
        tx.telemetry.add_resources([READING])
        tx.telemetry.add_report(REPORT)
        tx.telemetry.advance("dev-1", "spool", 9, {})
    with store.begin() as tx:
        assert tx.retention.expire(5_000, 100) == 3
        assert tx.retention.expire(5_000, 100) == 0

    with store.begin() as tx:
        assert list(tx.telemetry.windows("digits")) == [kept]
        assert tx.telemetry.window_count() == 1
        assert [event.sequence for event in tx.telemetry.events()] == [9]
        assert list(tx.telemetry.resources("dev-1")) == []
        assert list(tx.telemetry.reports("dev-1")) == [REPORT]
        assert tx.telemetry.stored_through("dev-1", "spool") == 9


def test_records_expire_in_portions_until_none_are_left(store: Store) -> None:
    with store.begin() as tx:
        tx.telemetry.add_windows([window(number) for number in range(1, 4)])
        tx.telemetry.add_events([EVENT, replace(EVENT, sequence=9, recorded_ms=5_000)])
        tx.telemetry.add_resources([READING])

    removed = []
    for _ in range(4):
        with store.begin() as tx:
            removed.append(tx.retention.expire(5_000, 2))

    assert removed == [2, 2, 1, 0]
    with store.begin() as tx:
        assert tx.telemetry.window_count() == 0
        assert [event.sequence for event in tx.telemetry.events()] == [9]


def test_a_devices_newest_reports_stay_and_the_oldest_go_in_portions(store: Store) -> None:
    with store.begin() as tx:
        for counter in range(1, 8):
            tx.telemetry.add_report(msgspec.structs.replace(REPORT, counter=counter))
        tx.telemetry.add_report(msgspec.structs.replace(REPORT, device="dev-2"))

    removed = []
    for _ in range(4):
        with store.begin() as tx:
            removed.append(tx.retention.trim_reports("dev-1", keep=3, most=2))

    assert removed == [2, 2, 0, 0]
    with store.begin() as tx:
        assert [one.counter for one in tx.telemetry.reports("dev-1")] == [7, 6, 5]
        assert [one.counter for one in tx.telemetry.reports("dev-2")] == [1]


def test_what_the_audit_was_not_told_is_kept_by_device_and_kind(store: Store) -> None:
    other = replace(REJECTIONS, action="telemetry.reject", untold=0)
    newer = replace(REJECTIONS, untold=9)

    with store.begin() as tx:
        for one in (REJECTIONS, other, newer):
            tx.audit.put_rejections(one)

    with store.begin() as tx:
        assert tx.audit.rejections("dev-1", "report.replay") == newer
        assert tx.audit.rejections("dev-1", "telemetry.reject") == other
        assert tx.audit.rejections("dev-2", "report.replay") is None
