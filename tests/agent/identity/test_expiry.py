from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.identity.expiry import Standing, may_renew, renew_at, standing

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=30)


@settings(max_examples=100)
@given(days=st.floats(0.01, 4000), jitter=st.floats(0, 1, exclude_max=True))
def test_renewal_is_due_after_two_thirds_and_leaves_a_quarter(days: float, jitter: float) -> None:
    end = START + timedelta(days=days)
    due = renew_at(START, end, jitter)

    slack = timedelta(microseconds=2)
    assert START + (end - START) * 2 / 3 - slack <= due
    assert due <= end - (end - START) / 4 + slack


def test_devices_that_were_enrolled_together_renew_apart() -> None:
    assert renew_at(START, END, 0.9) - renew_at(START, END, 0.1) == timedelta(days=2)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (0, Standing.FRESH),
        (19.9, Standing.FRESH),
        (20.1, Standing.DUE),
        (29.9, Standing.DUE),
        (30, Standing.EXPIRED),
        (119.9, Standing.EXPIRED),
        (120, Standing.LAPSED),
        (4000, Standing.LAPSED),
    ],
)
def test_what_the_age_means(day: float, expected: Standing) -> None:
    assert standing(START, END, START + timedelta(days=day), jitter=0.0) is expected


def test_grace_ends_when_it_ends() -> None:
    grace = timedelta(days=1)

    assert may_renew(END, END + grace - timedelta(seconds=1), grace)
    assert not may_renew(END, END + grace, grace)
