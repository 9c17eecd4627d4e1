"""Requests that wait for their truth: within bounds, the oldest goes first."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.federated.collecting.remembered import Limits, Remembered, Request
from agent.federated.layout import TRUTH, Field, Layout

LAYOUT = Layout(inputs=(Field("x", "FP32", (4,)),), truth=Field(TRUTH, "INT64", ()))


@given(puts=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4), st.floats(0, 5)), max_size=60))
def test_what_is_remembered_keeps_to_its_limits(puts: list[tuple[int, int, float]]) -> None:
    layout = LAYOUT
    limits = Limits(requests=5, size=9 * layout.row_bytes, seconds=8.0)
    remembered, now = Remembered(limits), 0.0
    latest: dict[str, Request] = {}
    for number, rows, passed in puts:
        now += passed
        request = Request(1, layout, np.zeros(rows, layout.dtype), now)
        remembered.put("m", f"{number}", request)
        latest[f"{number}"] = request

        kept = {key: found for key in latest if (found := remembered.get("m", key)) is not None}
        assert len(kept) == len(remembered) <= limits.requests
        assert sum(one.rows.nbytes for one in kept.values()) <= limits.size
        assert all(one.at >= now - limits.seconds for one in kept.values())
        assert all(latest[key] is one for key, one in kept.items())
        assert f"{number}" in kept
        ages = [one.at for one in kept.values()]
        gone = [one.at for key, one in latest.items() if key not in kept]
        assert not gone or not ages or max(gone) <= min(ages)


def test_a_request_that_is_larger_than_all_room_pushes_nothing_out() -> None:
    layout = LAYOUT
    remembered = Remembered(Limits(size=2 * layout.row_bytes))
    remembered.put("m", "a", Request(1, layout, np.zeros(1, layout.dtype), 1.0))

    remembered.put("m", "b", Request(1, layout, np.zeros(3, layout.dtype), 1.0))

    assert remembered.get("m", "b") is None
    assert remembered.get("m", "a") is not None
