"""What windows come to in all: one total after each, whatever clocks and devices do."""

from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add

from hypothesis import given
from hypothesis import strategies as st

from agent.inference.latency import BUCKETS
from agent.monitor.reference import CELLS
from controller.monitor.estimator import Estimator
from controller.monitor.total import Sums, Total, sums_of, total_after
from controller.telemetry.record import StoredWindow
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


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=8), st.integers(1, 8))
def test_totals_grow_and_end_later_whatever_the_clock_says(ends: list[int], together: int) -> None:
    windows = [window(ended_ms=end) for end in ends]
    totals: list[Total] = []
    for start in range(0, len(windows), together):
        last = totals[-1] if totals else None
        totals.append(total_after(last, windows[start : start + together], ESTIMATOR))

    assert totals[-1].sums == reduce(add, [sums_of(window(), ESTIMATOR)] * len(ends))
    assert all(one.ended_ms < following.ended_ms for one, following in pairwise(totals))
    assert totals[-1].ended_ms >= max(ends)
