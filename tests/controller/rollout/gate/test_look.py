import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controller.rollout.account import Tally
from controller.rollout.gate.look import LOOK_SECONDS, look, nearly_at

seconds = st.floats(0, 1e7)
aparts = st.floats(0, 1e6)


@given(seconds, aparts, seconds)
def test_the_next_look_is_always_ahead(first: float, apart: float, now: float) -> None:
    due, next_at = look(first, apart, now)

    assert next_at > now
    assert not due or now >= first + LOOK_SECONDS


@given(seconds, aparts)
def test_looks_become_ever_rarer(first: float, apart: float) -> None:
    """Each doubles the time since the first, and nobody looks in between."""
    at, begun = first + LOOK_SECONDS, list[float]()
    while len(begun) < 12:
        due, next_at = look(first, apart, at)
        assert due
        if apart > 2 * LOOK_SECONDS:
            assert look(first, apart, at + LOOK_SECONDS + 1) == (False, next_at)
        begun.append(at - first - LOOK_SECONDS)
        at = next_at

    step = max(apart, LOOK_SECONDS)
    assert begun[0] == 0
    assert all(
        math.isclose(later, 2 * earlier + step, rel_tol=1e-6, abs_tol=1e-6)
        for earlier, later in pairwise(begun)
    )


def test_a_look_that_is_due_stays_so_for_a_minute() -> None:
    assert look(40, 600, 99) == (False, 100)
    assert look(40, 600, 100) == (True, 700)
    assert look(40, 600, 159.9) == (True, 700)
    assert look(40, 600, 160) == (False, 700)
    assert look(40, 600, 700) == (True, 1900)
    assert look(math.inf, 600, 1e12) == (False, math.inf)


def test_three_of_four_must_have_soaked_and_who_is_lost_counts_as_one_that_has() -> None:
    soaked = [float(at) for at in range(1, 15)]

    assert nearly_at(soaked, Tally(ok=14, waiting=6)) == math.inf
    assert nearly_at([*soaked, 15.0], Tally(ok=15, waiting=5)) == 15.0
    assert nearly_at(soaked, Tally(ok=14, failed=1, waiting=5)) == 14.0
    assert nearly_at([1.0, 2.0], Tally(ok=2, waiting=1)) == math.inf
    assert nearly_at([1.0, 2.0], Tally(ok=2, away=30)) == 2.0
    assert nearly_at([1.0, 2.0], Tally(ok=2, deferred=1)) == math.inf
    assert nearly_at([], Tally(failed=3)) == math.inf
    # What devices say goes before when they were to be ready.
    assert nearly_at([1.0, 2.0], Tally(ok=2, soaking=1)) == math.inf


@given(st.lists(seconds, max_size=40), *[st.integers(0, 10)] * 3)
def test_most_have_soaked_by_then(
    soaked: list[float], lost: int, waiting: int, deferred: int
) -> None:
    told = Tally(ok=len(soaked), failed=lost, waiting=waiting, deferred=deferred)
    at = nearly_at(sorted(soaked), told)

    by_then = sum(one <= at for one in soaked) + lost
    assert at == math.inf or by_then >= 0.75 * told.size
