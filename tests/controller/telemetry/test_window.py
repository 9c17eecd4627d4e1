"""What is let into the store is exactly what whoever merges windows can read."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.monitor.reference import CELLS
from agent.monitor.wire import counts_of
from controller.telemetry.bounds import Unacceptable
from controller.telemetry.window import stored_window
from protos.errors import DocumentError
from protos.v1 import telemetry_pb2

NOW_MS = 1_800_000_000_000
NUMBERS = st.sampled_from(
    [0.0, 1.0, -1.0, 2.0**62, -(2.0**62), 2.0**63, float("inf"), float("-inf"), float("nan")]
)


@st.composite
def windows(draw: st.DrawFn) -> telemetry_pb2.Window:
    """Windows that are right, and windows with one thing wrong."""
    rows = draw(st.sampled_from([0, 1, 50, 2**53 - 1, 2**53, 2**53 + 1, 2**64 - 1]))
    series = draw(st.integers(0, 3))
    counts = [value for _ in range(series) for value in (rows, *[0] * (CELLS - 1))]
    sums = draw(st.lists(NUMBERS, min_size=4 * series, max_size=4 * series))
    match draw(st.sampled_from(["", "", "count", "length", "sums"])):
        case "count" if counts:
            place = draw(st.integers(0, len(counts) - 1))
            counts[place] = draw(st.sampled_from([0, 1, 2**63, 2**64 - 1]))
        case "length":
            counts = counts[:-1] or [0]
        case "sums":
            sums = [*sums, 0.0]
    return telemetry_pb2.Window(
        model="digits",
        version=3,
        manifest_sha256="a" * 64,
        profile_sha256="b" * 64,
        window_id="w1",
        started_ms=NOW_MS - 2,
        ended_ms=NOW_MS - 1,
        rows=rows,
        counts=counts,
        sums=sums,
    )


@settings(max_examples=300)
@given(window=windows())
def test_what_is_stored_can_be_read_when_it_is_merged(window: telemetry_pb2.Window) -> None:
    try:
        stored = stored_window("dev-1", "spool", 1, window, NOW_MS)
        accepted = True
    except Unacceptable:
        accepted = False
    try:
        counts = counts_of(window)
        readable = window.rows < 2**53  # the store's own bound
    except DocumentError:
        readable = False

    assert accepted == readable
    if accepted:
        assert stored.rows == counts.rows == window.rows


def test_what_metrics_sum_up_stands_beside_the_payload() -> None:
    traffic = telemetry_pb2.Traffic(requests=9, failed=2, refused=1)
    window = telemetry_pb2.Window(
        model="digits",
        version=3,
        manifest_sha256="a" * 64,
        profile_sha256="b" * 64,
        window_id="w1",
        started_ms=NOW_MS - 2,
        ended_ms=NOW_MS - 1,
        counts=[0] * CELLS,
        sums=[0.0] * 4,
        traffic=traffic,
    )

    stored = stored_window("dev-1", "spool", 1, window, NOW_MS)

    assert (stored.requests, stored.failed, stored.refused) == (9, 2, 1)
