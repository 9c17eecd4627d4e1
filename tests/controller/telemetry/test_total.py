"""What windows come to in all: one total after each, whatever clocks and devices do."""

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.inference.latency import BUCKETS
from agent.monitor.reference import CELLS
from controller.monitor.estimator import Estimator
from controller.telemetry.record import StoredWindow
from controller.telemetry.total import Sums, sums_of, totals_after
from protos.v1 import telemetry_pb2

V = telemetry_pb2.Verdict
ESTIMATOR = Estimator("c" * 64, 1, 2, 0.5, 0.25, (0.75,) * 34)


def window(**changes: object) -> StoredWindow:
    """50 answers, half a unit above the centre: a confidence of 0.625."""
    cells = [50] + [0] * (CELLS - 1)
    message = telemetry_pb2.Window(
        counts=cells * 2,
        sums=[0.0, 0.0, 0.0, 0.0, 25.0, 50.0, 0.0, 1.0],
        traffic=telemetry_pb2.Traffic(requests=12, latency_counts=[10, 1] + [0] * (BUCKETS - 2)),
    )
    known = StoredWindow(
        "dev-1", "s", 1, "digits", 3, "c" * 64, "w1", 0, 1_000, 50, V.VERDICT_OK,
        message.SerializeToString(), requests=12, failed=1,
    )  # fmt: skip
    return replace(known, **changes)  # type: ignore[arg-type]


def test_one_windows_sums() -> None:
    sums = sums_of(window(), ESTIMATOR)

    assert sums == Sums(
        judged=1, requests=12, failed=1, answers=50, confidence=31.25, estimated=50, right=37.5,
        latency_counts=(10, 1) + (0,) * (BUCKETS - 2),
    )  # fmt: skip
    assert sums.p99_seconds is not None
    assert Sums().p99_seconds is None


def test_verdicts_are_counted_where_there_was_enough_to_judge() -> None:
    def counted(verdict: int) -> tuple[int, int, int]:
        sums = sums_of(window(verdict=verdict), None)
        return sums.judged, sums.faulty, sums.moved

    assert counted(V.VERDICT_OK) == (1, 0, 0)
    assert counted(V.VERDICT_BAD_DATA) == (1, 1, 0)
    assert counted(V.VERDICT_DRIFT) == (1, 0, 1)
    assert counted(V.VERDICT_INSUFFICIENT_DATA) == (0, 0, 0)
    assert counted(V.VERDICT_UNSPECIFIED) == (0, 0, 0)


def test_what_no_estimator_can_read_tells_no_confidence() -> None:
    for sums in (
        sums_of(window(), None),
        sums_of(window(profile_sha256="d" * 64), ESTIMATOR),
        sums_of(window(), replace(ESTIMATOR, series=3)),
    ):
        assert (sums.answers, sums.estimated, sums.requests) == (0, 0, 12)
    blind = sums_of(window(), replace(ESTIMATOR, right=()))
    assert (blind.answers, blind.estimated) == (50, 0)


def test_a_device_can_not_have_failed_more_than_it_was_asked() -> None:
    assert sums_of(window(failed=99), None).failed == 12


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=8), st.integers(0, 8))
def test_totals_grow_and_end_later_whatever_the_clock_says(ends: list[int], cut: int) -> None:
    windows = [window(ended_ms=end) for end in ends]
    totals = totals_after(None, windows, ESTIMATOR)
    first = totals_after(None, windows[:cut], ESTIMATOR)
    rest = totals_after(first[-1] if first else None, windows[cut:], ESTIMATOR)

    assert [*first, *rest] == totals
    assert [one.sums.requests for one in totals] == [12 * n for n in range(1, len(ends) + 1)]
    assert all(one.ended_ms < next_.ended_ms for one, next_ in itertools.pairwise(totals))
    assert all(total.ended_ms >= end for total, end in zip(totals, ends, strict=True))
