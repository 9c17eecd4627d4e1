from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.transport.backoff import Backoff

SCHEDULES = st.tuples(st.floats(0.001, 100), st.floats(1, 1000)).map(
    lambda pair: Backoff(base=pair[0], cap=pair[0] * pair[1])
)


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - no secret depends on it


@settings(max_examples=100)
@given(schedule=SCHEDULES, attempt=st.integers(0, 10_000), seed=st.integers(0, 2**32))
def test_a_wait_is_never_negative_nor_above_its_ceiling(
    schedule: Backoff, attempt: int, seed: int
) -> None:
    wait = schedule.delay(attempt, seeded(seed))

    assert 0.0 <= wait <= schedule.ceiling(attempt) <= schedule.cap


@settings(max_examples=100)
@given(schedule=SCHEDULES, attempt=st.integers(0, 200))
def test_ceilings_double_until_the_cap(schedule: Backoff, attempt: int) -> None:
    doubled = min(schedule.cap, 2 * schedule.ceiling(attempt))

    assert schedule.ceiling(attempt + 1) == pytest.approx(doubled)
    assert schedule.ceiling(0) == schedule.base


def test_the_draw_is_uniform_over_the_whole_range() -> None:
    rng = seeded(7)
    schedule = Backoff(base=8.0, cap=8.0)
    draws = [schedule.delay(3, rng) for _ in range(20_000)]
    shares = [sum(low <= draw < low + 1 for draw in draws) / len(draws) for low in range(8)]

    # Standard deviation of a share: sqrt(1/8 * 7/8 / 20000) = 0.0023.
    assert all(abs(share - 0.125) < 0.0115 for share in shares)


def test_the_same_generator_gives_the_same_waits() -> None:
    schedule = Backoff()
    first, second = seeded(1), seeded(1)

    assert [schedule.delay(n, first) for n in range(9)] == [
        schedule.delay(n, second) for n in range(9)
    ]


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_a_schedule_that_can_not_be_is_refused(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="base"):
        Backoff(base=base, cap=cap)
