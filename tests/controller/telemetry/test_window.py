"""What is let into the store is exactly what whoever merges windows can read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.monitor.binning import CLIP
from agent.monitor.finding import Judgement, Verdict
from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS
from agent.monitor.window import OpenWindow
from agent.monitor.wire import counts_of, window_message
from controller.telemetry.bounds import Unacceptable
from controller.telemetry.window import stored_window
from protos.errors import DocumentError
from protos.v1 import telemetry_pb2
from tests.agent.monitor import profiles
from tests.controller.monitor.pumps import TRAFFIC

NOW_MS = 1_800_000_000_000
INFINITE = float("inf")
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


def possible(window: telemetry_pb2.Window) -> bool:
    """Whether there are rows whose sums these are."""
    for at in range(0, len(window.sums), 4):
        total, squares, least, greatest = window.sums[at : at + 4]
        if abs(total) > window.rows * CLIP or not 0 <= squares <= window.rows * CLIP**2:
            return False
        nothing = (least, greatest) == (INFINITE, -INFINITE)
        if not nothing and not -INFINITE < least <= greatest < INFINITE:
            return False
    return True


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
        readable = window.rows < 2**53 and possible(window)  # the store's own bounds
    except DocumentError:
        readable = False

    assert accepted == readable
    if accepted:
        assert stored.rows == counts.rows == window.rows


NOTHING = [0.0, 0.0, INFINITE, -INFINITE]
FIFTY = [50.0 * CLIP, 50.0 * CLIP**2, -3.0, 1e308]


def of_fifty(sums: list[float]) -> telemetry_pb2.Window:
    """Two series over fifty rows, of which the second has these sums."""
    return telemetry_pb2.Window(
        model="digits",
        version=3,
        manifest_sha256="a" * 64,
        profile_sha256="b" * 64,
        window_id="w1",
        started_ms=NOW_MS - 2,
        ended_ms=NOW_MS - 1,
        rows=50,
        counts=[50, *[0] * (CELLS - 1)] * 2,
        sums=[*NOTHING, *sums],
    )


@pytest.mark.parametrize("sums", [NOTHING, FIFTY, [-FIFTY[0], *FIFTY[1:]], [0.0, 0.0, 4.0, 4.0]])
def test_the_largest_sums_that_so_many_rows_have_are_stored(sums: list[float]) -> None:
    assert stored_window("dev-1", "spool", 1, of_fifty(sums), NOW_MS).rows == 50


@pytest.mark.parametrize(
    "sums",
    [
        [2.0**62, *FIFTY[1:]],
        [FIFTY[0] + 1, *FIFTY[1:]],
        [-FIFTY[0] - 1, *FIFTY[1:]],
        [0.0, -1.0, 1.0, 2.0],
        [0.0, FIFTY[1] * 1.001, 1.0, 2.0],
        [0.0, 0.0, 2.0, 1.0],
        [0.0, 0.0, INFINITE, 1.0],
        [0.0, 0.0, 1.0, -INFINITE],
        [0.0, 0.0, -INFINITE, INFINITE],
        [0.0, 0.0, INFINITE, INFINITE],
    ],
)
def test_sums_that_no_rows_have_are_refused(sums: list[float]) -> None:
    with pytest.raises(Unacceptable, match="sums: not those of series 1"):
        stored_window("dev-1", "spool", 1, of_fifty(sums), NOW_MS)


def test_what_a_device_counts_of_the_farthest_readings_is_stored() -> None:
    x = np.full((50, 3), np.finfo(np.float32).max)
    x[::2] *= -1
    x[:3, 1] = np.nan
    x[:, 2] = np.inf
    colours = profiles.colours(np.random.default_rng(1), 50)
    observer = Observer(profiles.reference())
    observer.observe(profiles.inputs(x, colours), {"score": x[:, :1]})
    opened = OpenWindow("w1", "pump", 1, "a" * 64, NOW_MS - 2, observer.drain(), TRAFFIC[0])
    message = window_message(opened, NOW_MS - 1, Judgement(Verdict.BAD_DATA))

    assert stored_window("dev-1", "spool", 1, message, NOW_MS).rows == 50


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
