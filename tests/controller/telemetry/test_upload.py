"""Uploads end up in the store exactly once, and nothing bad gets in or holds up the rest."""

import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.identity.keys import generate_key, public_key, signer
from agent.monitor.reference import CELLS, MAX_SERIES
from controller.audit import broken_at
from controller.errors import (
    ControllerError,
    DeviceRevoked,
    DeviceUnknown,
    InvalidInput,
    StoreError,
    TooLarge,
)
from controller.fleet.device import Device, DeviceStatus
from controller.store.sql import SqlStore
from controller.store.store import Store
from controller.telemetry.actions import upload
from protos.documents import Report, SlotReport
from protos.envelope import seal
from protos.limits import LATENCY_BUCKETS_SECONDS, UPLOAD_BYTES, UPLOAD_RECORDS
from protos.v1 import common_pb2, telemetry_pb2
from simulations.memory_store import MemoryStore

NOW = 1_800_000_000.0
NOW_MS = int(NOW * 1000)
KEY = generate_key()
OTHER_KEY = generate_key()
SERIES = [50] + [0] * (CELLS - 1)  # the counts of one series over 50 rows
RUNNING = SlotReport(
    model="digits",
    slot="champion",
    version=3,
    state="committed",
    manifest_sha256="a" * 64,
    model_sha256="b" * 64,
    approvals=2,
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    enrol(opened, "dev-1", KEY)
    yield opened
    opened.close()


def enrol(store: Store, device: str, key: bytes) -> None:
    with store.begin() as tx:
        tx.devices.put(Device(device, NOW - 100, public_key(key), "ff", NOW + 100))


def window(sequence: int, **changes: object) -> telemetry_pb2.Record:
    values: dict[str, object] = {
        "model": "digits",
        "version": 3,
        "manifest_sha256": "a" * 64,
        "profile_sha256": "c" * 64,
        "window_id": f"w{sequence}",
        "started_ms": NOW_MS - 60_000,
        "ended_ms": NOW_MS - 1_000,
        "rows": 50,
        "counts": SERIES * 2,
        "sums": [1.0, 2.0, float("inf"), float("-inf")] * 2,
        "verdict": telemetry_pb2.VERDICT_OK,
        **changes,
    }
    made = telemetry_pb2.Window(**values)  # type: ignore[arg-type]
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, window=made)


def event(
    sequence: int, name: str = "install.committed", **changes: object
) -> telemetry_pb2.Record:
    values: dict[str, object] = {"name": name, "severity": "info", **changes}
    made = telemetry_pb2.Event(**values)  # type: ignore[arg-type]
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, event=made)


def reading(sequence: int) -> telemetry_pb2.Record:
    made = telemetry_pb2.Resources(cpu_share=0.25, resident_bytes=80 * 2**20)
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, resources=made)


def report(
    sequence: int, counter: int, key: bytes = KEY, **changes: object
) -> telemetry_pb2.Record:
    values: dict[str, object] = {
        "device": "dev-1",
        "counter": counter,
        "generation": 7,
        "reported_at": int(NOW),
        "running": (RUNNING,),
        **changes,
    }
    sealed = seal(Report(**values), signer(key))  # type: ignore[arg-type]
    envelope = common_pb2.Envelope.FromString(sealed)
    return telemetry_pb2.Record(sequence=sequence, recorded_ms=NOW_MS, report=envelope)


def send(
    store: Store,
    *records: telemetry_pb2.Record,
    spool: str = "spool",
    dropped: dict[str, int] | None = None,
    now: float = NOW,
) -> int:
    request = telemetry_pb2.UploadRequest(
        spool_id=spool,
        records=records,
        dropped=[
            telemetry_pb2.Dropped(kind=kind, count=count) for kind, count in (dropped or {}).items()
        ],
    )
    reply = upload(store, "dev-1", request.SerializeToString(), now)
    return telemetry_pb2.UploadReply.FromString(reply).stored_through


@dataclass(frozen=True)
class Stored:
    windows: list[str]
    events: list[str]
    readings: int
    reports: list[int]
    rejected: dict[int, str]


def stored(store: Store) -> Stored:
    with store.begin() as tx:
        events = sorted(tx.telemetry.events("dev-1", limit=1000), key=lambda one: one.sequence)
        return Stored(
            windows=[one.window_id for one in tx.telemetry.windows("digits")],
            events=[one.name for one in events if one.name != "telemetry.rejected"],
            readings=len(tx.telemetry.resources("dev-1", limit=1000)),
            reports=[one.counter for one in tx.telemetry.reports("dev-1")],
            rejected={one.sequence: one.code for one in events if one.name == "telemetry.rejected"},
        )


# --- Exactly once ---------------------------------------------------------------------------------


def test_every_kind_of_record_is_stored_and_acknowledged(store: Store) -> None:
    through = send(store, window(1), event(2), reading(3), report(4, 1), dropped={"window": 9})

    assert through == 4
    assert stored(store) == Stored(["w1"], ["install.committed"], 1, [1], {})
    with store.begin() as tx:
        assert tx.telemetry.dropped("dev-1") == {"window": 9}
        (kept,) = tx.telemetry.windows("digits")
        assert telemetry_pb2.Window.FromString(kept.payload) == window(1).window
        (told,) = tx.telemetry.resources("dev-1")
        assert telemetry_pb2.Resources.FromString(told.payload).cpu_share == 0.25


def test_a_repeated_upload_adds_nothing_and_is_acknowledged_again(store: Store) -> None:
    records = (window(1), event(2), reading(3), report(4, 1))
    send(store, *records)
    before = stored(store)

    assert send(store, *records) == 4

    assert stored(store) == before


def test_an_old_upload_that_comes_late_adds_nothing(store: Store) -> None:
    send(store, window(1), window(2))
    send(store, window(3))

    assert send(store, window(1), window(2)) == 3

    assert stored(store).windows == ["w1", "w2", "w3"]


def test_records_out_of_order_in_one_upload_are_all_stored(store: Store) -> None:
    assert send(store, event(3, "three"), event(1, "one"), event(2, "two")) == 3

    assert stored(store).events == ["one", "two", "three"]


def test_gaps_of_dropped_records_are_passed_over(store: Store) -> None:
    assert send(store, window(5), window(90)) == 90

    assert send(store) == 90


def test_spools_are_counted_apart_and_a_window_in_two_of_them_is_stored_once(store: Store) -> None:
    send(store, window(1), window(2), spool="old")

    assert send(store, window(1), event(2), spool="new") == 2

    assert stored(store).windows == ["w1", "w2"]
    assert stored(store).events == ["install.committed"]


def test_nothing_is_stored_when_the_transaction_fails(tmp_path: Path) -> None:
    store = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    enrol(store, "dev-1", KEY)
    with store.begin() as tx:
        tx.telemetry._session._connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON cursors BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        )

    with pytest.raises(ControllerError):
        send(store, window(1), event(2), report(3, 1))

    assert stored(store) == Stored([], [], 0, [], {})
    with store.begin() as tx:
        tx.telemetry._session._connection.exec_driver_sql("DROP TRIGGER full")
    assert send(store, window(1), event(2), report(3, 1)) == 3
    assert stored(store) == Stored(["w1"], ["install.committed"], 0, [1], {})
    store.close()


@settings(max_examples=60, deadline=None)
@given(
    rng=st.randoms(use_true_random=False),
    count=st.integers(1, 40),
    lost=st.floats(0, 0.9),
    size=st.integers(1, 10),
)
def test_whatever_is_lost_repeated_or_late_each_window_is_counted_once(
    rng: random.Random, count: int, lost: float, size: int
) -> None:
    """A device that sends its oldest records until they are acknowledged, over a bad network."""
    store = MemoryStore()
    enrol(store, "dev-1", KEY)
    waiting = list(range(1, count + 1))
    late: list[list[int]] = []
    while waiting:
        batch = waiting[: rng.randint(1, size)]
        late.append(batch)
        for sent in (batch, rng.choice(late)):  # now and then an old one once more
            reached = rng.random() >= lost
            through = send(store, *(window(one) for one in sent)) if reached else 0
            if sent is batch and rng.random() >= lost:  # the reply may be lost, too
                waiting = [one for one in waiting if one > through]

    assert sorted(stored(store).windows) == sorted(f"w{one}" for one in range(1, count + 1))


# --- Reports --------------------------------------------------------------------------------------


def test_a_signed_report_says_what_the_slots_run(store: Store) -> None:
    trying = replace_slot(
        version=4, state="failed", code="hash-mismatch", detail="x" * 5_000, generation=6
    )

    send(store, report(1, counter=5, wanted=(trying,)))

    with store.begin() as tx:
        running, wanted = tx.devices.slots("dev-1")
        device = tx.devices.get("dev-1")
        (kept,) = tx.telemetry.reports("dev-1")
    assert (running.running, running.version, running.model_sha256) == (True, 3, "b" * 64)
    assert (running.counter, running.generation, running.approvals) == (5, 7, 2)
    assert (wanted.running, wanted.version, wanted.code) == (False, 4, "hash-mismatch")
    # It failed before the newest directive came: it is no answer to that.
    assert wanted.generation == 6
    assert len(wanted.detail) == 2_000
    assert device is not None
    assert (device.counter, device.last_seen) == (5, NOW)
    assert kept.envelope == report_envelope(report(1, counter=5, wanted=(trying,)), kept.envelope)


def replace_slot(**changes: object) -> SlotReport:
    return msgspec.structs.replace(RUNNING, **changes)


def report_envelope(record: telemetry_pb2.Record, envelope: bytes) -> bytes:
    """The stored envelope, if it carries the record's payload: ECDSA signatures differ each time."""
    kept = common_pb2.Envelope.FromString(envelope)
    return envelope if kept.payload == record.report.payload else b""


def test_the_newest_of_several_reports_says_what_runs_and_all_are_evidence(store: Store) -> None:
    send(store, report(1, 1), report(2, 2, running=()), report(3, 4, generation=8))

    with store.begin() as tx:
        (slot,) = tx.devices.slots("dev-1")
    assert (slot.counter, slot.generation) == (4, 8)
    assert stored(store).reports == [4, 2, 1]


def test_a_renewal_that_overtook_a_report_does_not_make_it_a_replay(store: Store) -> None:
    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        tx.devices.put(replace(device, counter=9))

    send(store, report(1, counter=8))

    assert stored(store).reports == [8]
    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        assert device.counter == 9


@pytest.mark.parametrize("again", [5, 4, 1])
def test_a_replayed_report_changes_nothing_and_is_audited(store: Store, again: int) -> None:
    send(store, report(1, counter=5))

    assert send(store, report(2, counter=again, running=())) == 2

    assert stored(store).reports == [5]
    assert stored(store).rejected == {2: "counter-replayed"}
    with store.begin() as tx:
        assert len(tx.devices.slots("dev-1")) == 1
        (audited,) = tx.audit.records()
        assert audited.entry.action == "report.replay"
        assert audited.entry.actor == "device:dev-1"
        assert "counter" in audited.entry.detail["sequence 2"]
        assert broken_at([audited]) is None


def test_a_device_that_replays_all_the_time_is_audited_once_an_hour(store: Store) -> None:
    send(store, report(1, counter=5))

    for minute in range(121):
        send(store, report(2 + minute, counter=5), now=NOW + 60 * minute)

    with store.begin() as tx:
        details = [one.entry.detail for one in tx.audit.records()]
    assert [one["records"] for one in details] == ["1", "1", "1"]
    assert [one.get("not audited before") for one in details] == [None, "59", "59"]


def test_one_kind_of_bad_record_does_not_hide_another_from_the_audit(store: Store) -> None:
    send(store, report(1, counter=5))
    send(store, report(2, counter=5))
    send(store, event(3, "telemetry.rejected"))

    with store.begin() as tx:
        actions = [one.entry.action for one in tx.audit.records()]
    assert actions == ["report.replay", "telemetry.reject"]


def tampered(record: telemetry_pb2.Record) -> telemetry_pb2.Record:
    record.report.payload = record.report.payload.replace(b'"version":3', b'"version":4')
    return record


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("forged", "code"),
    [
        (report(1, 1, key=OTHER_KEY), "bad-signature"),
        (tampered(report(1, 1)), "bad-signature"),
        (report(1, 1, device="dev-2"), "wrong-device"),
        (report(1, 0), "counter-replayed"),
        (report(1, -1), "out-of-range"),
        (report(1, 2**60), "out-of-range"),
        (report(1, 1, generation=2**70), "out-of-range"),
        (report(1, 1, running=(RUNNING, RUNNING)), "malformed"),
        (report(1, 1, running=(RUNNING,) * 65), "too-large"),
        (report(1, 1, running=(replace_slot(model="../x"),)), "malformed"),
        (report(1, 1, running=(replace_slot(slot=""),)), "malformed"),
        (report(1, 1, running=(replace_slot(state="a\x00b"),)), "malformed"),
        (report(1, 1, running=(replace_slot(model_sha256="beef"),)), "malformed"),
        (report(1, 1, running=(replace_slot(version=-1),)), "out-of-range"),
        (report(1, 1, running=(replace_slot(approvals=2**40),)), "out-of-range"),
    ],
)
def test_a_report_that_is_not_the_devices_own_or_can_not_be_is_refused(
    store: Store, forged: telemetry_pb2.Record, code: str
) -> None:
    assert send(store, forged, event(2)) == 2

    assert stored(store) == Stored([], ["install.committed"], 0, [], {1: code})
    with store.begin() as tx:
        assert list(tx.devices.slots()) == []
        (audited,) = tx.audit.records()
        assert audited.entry.detail["records"] == "1"


# --- Bad records ----------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        (telemetry_pb2.Record(sequence=2), "unknown-kind", "neither"),
        (window(2, model="No Such"), "malformed", "model"),
        (window(2, version=2**32 - 1), "out-of-range", "version"),
        (window(2, manifest_sha256="A" * 64), "malformed", "manifest_sha256"),
        (window(2, profile_sha256=""), "malformed", "profile_sha256"),
        (window(2, window_id=""), "malformed", "window_id"),
        (window(2, window_id="x" * 129), "malformed", "window_id"),
        (window(2, window_id="a\nb"), "malformed", "window_id"),
        (window(2, started_ms=NOW_MS, ended_ms=NOW_MS - 1), "malformed", "ended_ms"),
        (window(2, rows=2**64 - 1), "out-of-range", "rows"),
        (window(2, counts=[]), "malformed", "counts"),
        (window(2, counts=SERIES + SERIES[:-1]), "malformed", "counts"),
        (window(2, counts=SERIES * (MAX_SERIES + 1)), "malformed", "counts"),
        (window(2, counts=[2**64 - 1, *SERIES[1:], *SERIES]), "malformed", "counts"),
        (window(2, counts=[49, *SERIES[1:], *SERIES]), "malformed", "counts"),
        (window(2, sums=[1.0] * 7), "malformed", "sums"),
        (window(2, sums=[float("nan")] * 8), "malformed", "sums"),
        (window(2, sums=[float("inf")] * 8), "malformed", "sums"),
        (window(2, verdict=99), "malformed", "verdict"),
        (window(2, findings=[telemetry_pb2.Finding()] * 513), "too-large", "findings"),
        (window(2, findings=[telemetry_pb2.Finding(detail="x" * 2_001)]), "too-large", "findings"),
        (
            window(2, findings=[telemetry_pb2.Finding(series="s", value=float("nan"))]),
            "malformed",
            "findings",
        ),
        (
            window(2, traffic=telemetry_pb2.Traffic(requests=2**63)),
            "out-of-range",
            "traffic.requests",
        ),
        (
            window(2, traffic=telemetry_pb2.Traffic(latency_counts=[1, 2])),
            "malformed",
            "latency_counts",
        ),
        (
            window(2, traffic=telemetry_pb2.Traffic(latency_sum_seconds=float("inf"))),
            "out-of-range",
            "latency_sum_seconds",
        ),
        (window(2, window_id="x" * 300_000), "too-large", "window"),
        (event(2, ""), "malformed", "name"),
        (event(2, "Very Bad"), "malformed", "name"),
        (event(2, "telemetry.rejected"), "malformed", "name"),
        (event(2, severity="fatal"), "malformed", "severity"),
        (event(2, model="../../x"), "malformed", "model"),
        (event(2, version=2**31), "out-of-range", "version"),
        (event(2, fields={str(one): "x" for one in range(33)}), "too-large", "fields"),
    ],
)
def test_a_bad_record_is_named_counted_and_skipped(
    store: Store, bad: telemetry_pb2.Record, code: str, field: str
) -> None:
    assert send(store, window(1), bad, window(3), event(4)) == 4

    assert stored(store) == Stored(["w1", "w3"], ["install.committed"], 0, [], {2: code})
    with store.begin() as tx:
        (rejected,) = (one for one in tx.telemetry.events() if one.sequence == 2)
        (audited,) = tx.audit.records()
    assert field in rejected.detail
    assert rejected.severity == "error"
    assert audited.entry.action == "telemetry.reject"
    assert field in audited.entry.detail["sequence 2"]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"cpu_share": math.nan}, id="not a number"),
        pytest.param({"cpu_seconds": math.inf}, id="infinite"),
        pytest.param({"uptime_seconds": -1.0}, id="negative"),
        pytest.param({"resident_bytes": 2**63}, id="too large for any database"),
    ],
)
def test_a_reading_that_can_not_be_true_is_rejected(store: Store, wrong: Mapping[str, Any]) -> None:
    made = telemetry_pb2.Resources(**wrong)

    through = send(store, telemetry_pb2.Record(sequence=1, recorded_ms=NOW_MS, resources=made))

    (field,) = wrong
    with store.begin() as tx:
        (event,) = tx.telemetry.events("dev-1")
        assert list(tx.telemetry.resources("dev-1")) == []
    assert (through, event.name, event.code) == (1, "telemetry.rejected", "out-of-range")
    assert event.detail.startswith(f"{field}: ")


def test_a_reading_that_carries_more_than_a_reading_is_rejected(store: Store) -> None:
    padding = telemetry_pb2.Event(detail="x" * 5_000).SerializeToString()
    stuffed = telemetry_pb2.Resources.FromString(padding)
    record = telemetry_pb2.Record(sequence=1, recorded_ms=NOW_MS, resources=stuffed)

    send(store, record)

    assert stored(store).rejected == {1: "too-large"}


def test_the_audit_of_many_bad_records_is_one_entry_with_the_first_reasons(store: Store) -> None:
    send(store, *(event(one, "") for one in range(1, 101)))

    with store.begin() as tx:
        (audited,) = tx.audit.records()
    assert audited.entry.detail["records"] == "100"
    assert len(audited.entry.detail) == 10
    assert len(stored(store).rejected) == 100


def test_texts_of_events_are_cut_and_hold_no_nul(store: Store) -> None:
    send(store, event(1, detail="a\x00" + "b" * 9_000, code="c" * 900, fields={"k": "v" * 9_000}))

    with store.begin() as tx:
        (kept,) = tx.telemetry.events()
    assert kept.detail == "a\N{REPLACEMENT CHARACTER}" + "b" * 1_998
    assert len(kept.code) == 128
    assert len(kept.fields["k"]) == 2_000


# --- Wrong clocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize("told", [0, -(2**63), 2**63 - 1, NOW_MS + 300_001, NOW_MS + 10**12])
def test_a_time_that_can_not_be_becomes_the_time_of_arrival_and_is_logged(
    store: Store, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    started = max(told - 5_000, -(2**63))
    wrong = window(1, started_ms=started, ended_ms=told)
    wrong.recorded_ms = told
    late = event(2)
    late.recorded_ms = told

    with caplog.at_level(logging.WARNING):
        send(store, wrong, late)

    with store.begin() as tx:
        (kept,) = tx.telemetry.windows("digits")
        (happened,) = tx.telemetry.events()
    assert kept.ended_ms == NOW_MS
    assert kept.started_ms == NOW_MS - (told - started)
    assert happened.recorded_ms == NOW_MS
    assert "telemetry.clock-skew device=dev-1 records=2" in caplog.text


def test_a_clock_that_is_a_little_off_and_months_without_a_link_are_believed(store: Store) -> None:
    months_ago = NOW_MS - 200 * 86_400_000
    old = window(1, started_ms=months_ago, ended_ms=months_ago)
    soon = event(2)
    soon.recorded_ms = NOW_MS + 300_000

    send(store, old, soon)

    with store.begin() as tx:
        assert [one.ended_ms for one in tx.telemetry.windows("digits")] == [months_ago]
        assert [one.recorded_ms for one in tx.telemetry.events()] == [NOW_MS + 300_000]


# --- Requests that are refused whole ----------------------------------------------------------------


def many(count: int) -> Sequence[telemetry_pb2.Record]:
    return [event(one) for one in range(1, count + 1)]


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: b"\xff\xff\xff", InvalidInput, "UploadRequest"),
        (lambda: b"\x00" * (UPLOAD_BYTES + 1), TooLarge, "bytes"),
        (
            lambda: telemetry_pb2.UploadRequest(
                spool_id="s", records=many(UPLOAD_RECORDS + 1)
            ).SerializeToString(),
            TooLarge,
            "records",
        ),
        (lambda: telemetry_pb2.UploadRequest().SerializeToString(), InvalidInput, "spool_id"),
        (
            lambda: telemetry_pb2.UploadRequest(spool_id="a\x00").SerializeToString(),
            InvalidInput,
            "spool_id",
        ),
        (
            lambda: telemetry_pb2.UploadRequest(
                spool_id="s", records=[event(0)]
            ).SerializeToString(),
            InvalidInput,
            "sequence",
        ),
        (
            lambda: telemetry_pb2.UploadRequest(
                spool_id="s", records=[event(1), event(2**63)]
            ).SerializeToString(),
            InvalidInput,
            "sequence",
        ),
    ],
    ids=["junk", "too long", "too many", "no spool", "odd spool", "sequence 0", "huge sequence"],
)
def test_a_request_that_can_not_be_is_refused_and_nothing_of_it_is_stored(
    store: Store, make: Callable[[], bytes], error: type[ControllerError], says: str
) -> None:
    with pytest.raises(error, match=says):
        upload(store, "dev-1", make(), NOW)

    assert stored(store) == Stored([], [], 0, [], {})


def test_as_many_records_as_are_allowed_are_taken_at_once(store: Store) -> None:
    assert send(store, *many(UPLOAD_RECORDS)) == UPLOAD_RECORDS


def test_nobody_unknown_or_revoked_is_listened_to(store: Store) -> None:
    request = telemetry_pb2.UploadRequest(spool_id="s", records=[event(1)]).SerializeToString()
    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        tx.devices.put(replace(device, status=DeviceStatus.REVOKED))

    with pytest.raises(DeviceRevoked):
        upload(store, "dev-1", request, NOW)
    with pytest.raises(DeviceUnknown):
        upload(store, "nobody", request, NOW)

    assert stored(store).events == []


def test_a_stored_key_that_can_not_be_read_is_the_stores_fault(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(Device("dev-1", NOW, b"no key", "ff", NOW))

    with pytest.raises(StoreError, match="dev-1"):
        send(store, event(1))


def test_latencies_of_every_bucket_are_taken(store: Store) -> None:
    traffic = telemetry_pb2.Traffic(
        requests=5,
        latency_counts=[1] * (len(LATENCY_BUCKETS_SECONDS) + 1),
        latency_sum_seconds=0.5,
    )

    send(store, window(1, traffic=traffic))

    assert stored(store).windows == ["w1"]
