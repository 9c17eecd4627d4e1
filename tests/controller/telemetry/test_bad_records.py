"""A bad record is named, counted and passed over; the rest of its upload is stored."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from agent.monitor.reference import MAX_SERIES
from controller.store.store import Store
from protos.v1 import telemetry_pb2
from tests.controller.telemetry.uploads import NOW_MS, SERIES, Stored, event, send, stored, window


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
