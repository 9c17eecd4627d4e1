import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.transport.token_bucket import Rate, full, level, take

RATE = Rate(burst=3, per_second=0.5)


def test_a_full_bucket_lasts_for_a_burst() -> None:
    bucket = full(RATE, 100.0)
    for left in (2.0, 1.0, 0.0):
        bucket = take(bucket, RATE, 100.0)
        assert level(bucket, RATE, 100.0) == left


def test_it_fills_steadily_and_not_over_the_brim() -> None:
    bucket = take(take(full(RATE, 0.0), RATE, 0.0), RATE, 0.0)

    assert level(bucket, RATE, 1.0) == pytest.approx(1.5)
    assert level(bucket, RATE, 1e9) == 3.0


@settings(max_examples=100)
@given(steps=st.lists(st.floats(0, 100), max_size=50))
def test_no_more_is_taken_than_burst_and_rate_allow(steps: list[float]) -> None:
    now, taken = 0.0, 0
    bucket = full(RATE, now)
    for step in steps:
        now += step
        if level(bucket, RATE, now) >= 1.0:
            bucket = take(bucket, RATE, now)
            taken += 1

    assert taken <= RATE.burst + RATE.per_second * now + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = take(full(RATE, 100.0), RATE, 100.0)

    assert level(bucket, RATE, 50.0) == 2.0
