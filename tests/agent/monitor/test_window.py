import msgspec
import numpy as np
import pytest

from agent.inference.traffic import TrafficCounts
from agent.monitor.finding import Verdict
from agent.monitor.reference import Policy
from agent.monitor.verdict import judge
from agent.monitor.window import OpenWindow, closes, longest_seconds, overridden
from agent.monitor.wire import (
    alert_record,
    finding_from,
    read_window,
    verdict_of,
    window_message,
    window_record,
)
from protos.errors import DocumentError
from protos.v1 import telemetry_pb2
from tests.agent.monitor import profiles

POLICY = Policy(n_min=300, t_min_seconds=10, t_max_seconds=100)


def opened(rows: int, shift: float = 0.0, traffic: TrafficCounts | None = None) -> OpenWindow:
    counts = profiles.window(np.random.default_rng(rows), rows, shift=shift)
    return OpenWindow("w1", "pump", 3, "a" * 64, 1_000_000, counts, traffic or TrafficCounts())


@pytest.mark.parametrize(
    ("rows", "seconds", "expected"),
    [
        (299, 50, False),
        (300, 9.9, False),
        (300, 10, True),
        (1, 99.9, False),
        (1, 100, True),
        (0, 1000, False),
        (1, -5, True),
    ],
)
def test_a_window_closes_when_it_has_enough_or_its_time_is_over(
    rows: int, seconds: float, *, expected: bool
) -> None:
    assert closes(opened(rows), POLICY, int(1_000_000 + 1000 * seconds)) is expected


def test_windows_span_whole_cycles() -> None:
    daily = msgspec.structs.replace(POLICY, cycle_seconds=60.0)

    assert not closes(opened(400), daily, 1_000_000 + 59_000)
    assert closes(opened(400), daily, 1_000_000 + 60_000)
    assert longest_seconds(daily) == 120.0


def test_refused_requests_alone_are_told_too() -> None:
    window = opened(0, traffic=TrafficCounts(refused=3))

    assert closes(window, POLICY, 1_000_000 + 100_000)


def test_configuration_replaces_only_what_it_names() -> None:
    assert overridden(POLICY, 0, 0.0) == POLICY
    assert overridden(POLICY, 80, 0.0) == msgspec.structs.replace(POLICY, n_min=80)
    long = overridden(POLICY, 10, 500.0)
    assert (long.n_min, long.t_min_seconds, long.t_max_seconds) == (50, 500.0, 500.0)


def test_an_open_window_comes_back_from_its_message_as_it_was() -> None:
    traffic = TrafficCounts(requests=7, failed=1, refused=2, latency_sum_seconds=0.5)
    window = opened(321, traffic=traffic)

    assert read_window(window_message(window).SerializeToString()) == window


def test_a_closed_window_carries_its_verdict_and_findings() -> None:
    window = opened(1000, shift=2.0)
    judgement = judge(profiles.reference(), window.counts)

    record = telemetry_pb2.Record.FromString(window_record(window, 2_000_000, judgement))

    assert record.WhichOneof("kind") == "window"
    assert record.sequence == 0
    assert (record.recorded_ms, record.window.ended_ms) == (2_000_000, 2_000_000)
    assert verdict_of(record.window.verdict) is Verdict.DRIFT
    assert tuple(map(finding_from, record.window.findings)) == judgement.findings


def test_an_alert_says_what_a_person_would_ask_next() -> None:
    window = opened(1000, shift=2.0)
    judgement = judge(profiles.reference(), window.counts)

    record = telemetry_pb2.Record.FromString(
        alert_record(window, 2_000_000, Verdict.DRIFT, judgement)
    )

    event = record.event
    assert (event.name, event.severity, event.code) == ("monitor.drift", "error", "drift")
    assert (event.model, event.version) == ("pump", 3)
    assert "x[0] rose from" in event.detail
    assert event.fields["window_id"] == "w1"
    assert event.fields["rows"] == "1000"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("counts", [1, 2, 3], "counts"),
        ("counts", [], "counts"),
        ("sums", [0.0], "sums"),
        ("rows", 5, "counts"),
        ("rows", 2**60, "counts"),
    ],
)
def test_a_window_at_odds_with_itself_is_refused_by_field(
    field: str, value: object, named: str
) -> None:
    message = window_message(opened(60))
    message.ClearField(field)  # type: ignore[arg-type]
    if isinstance(value, list):
        getattr(message, field).extend(value)
    else:
        setattr(message, field, value)

    with pytest.raises(DocumentError, match=named):
        read_window(message.SerializeToString())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_sums_that_can_not_be_are_refused(value: float) -> None:
    message = window_message(opened(60))
    message.sums[0] = value

    with pytest.raises(DocumentError, match="sums"):
        read_window(message.SerializeToString())


def test_what_is_no_window_is_refused() -> None:
    with pytest.raises(DocumentError, match="not a window"):
        read_window(b"\xff\xff\xff")
