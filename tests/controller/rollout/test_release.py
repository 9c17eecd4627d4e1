import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.rollout.policy import Pace
from controller.rollout.release import MINUTE, Traffic, admitted, rate

NOW = 1_000_000.0
DUE = tuple(f"d{number}" for number in range(40))
SITES = {name: ("berlin", "munich", "oslo")[number % 3] for number, name in enumerate(DUE)}
paces = st.builds(
    Pace,
    per_minute=st.sampled_from([0.1, 0.5, 1, 1.5, 3, 10]),
    growth=st.sampled_from([1, 2]),
    growth_after=st.sampled_from([0, 5]),
    per_site=st.sampled_from([0, 1, 2]),
)


def idle(*released_at: float, succeeded: int = 0) -> Traffic:
    return Traffic(released_at, succeeded, {})


@pytest.mark.parametrize(
    ("pace", "succeeded", "expected"),
    [
        (Pace(), 0, math.inf),
        (Pace(per_minute=2), 100, 2),
        (Pace(per_minute=2, growth=2, growth_after=10), 9, 2),
        (Pace(per_minute=2, growth=2, growth_after=10), 10, 4),
        (Pace(per_minute=2, growth=2, growth_after=10), 35, 16),
        (Pace(per_minute=2, growth=10, growth_after=1), 10_000, math.inf),
    ],
)
def test_the_rate_grows_with_what_has_succeeded(
    pace: Pace, succeeded: int, expected: float
) -> None:
    assert rate(pace, succeeded) == expected


def test_without_a_pace_all_are_released_at_once() -> None:
    found = admitted(DUE, SITES, Pace(), idle(), NOW)

    assert (found.devices, found.held_by, found.again_at) == (DUE, (), math.inf)


def test_a_pace_holds_back_and_says_so_and_until_when() -> None:
    found = admitted(DUE, SITES, Pace(per_minute=3), idle(NOW - 50, NOW - 10), NOW)

    assert found.devices == DUE[:1]
    assert found.held_by == ("3 devices a minute",)
    assert found.again_at == NOW + 10


def test_below_one_a_minute_the_span_is_longer() -> None:
    pace = Pace(per_minute=0.5)

    assert admitted(DUE, SITES, pace, idle(NOW - 119), NOW).devices == ()
    assert admitted(DUE, SITES, pace, idle(NOW - 120), NOW).devices == DUE[:1]


def test_a_full_site_is_passed_over_and_devices_without_one_are_not_held() -> None:
    sites = {"a1": "berlin", "a2": "berlin", "b1": "munich"}
    busy = Traffic((), 0, {"berlin": 1})

    found = admitted(("a1", "a2", "b1", "c1", "c2"), sites, Pace(per_site=2), busy, NOW)

    assert found.devices == ("a1", "b1", "c1", "c2")
    assert found.held_by == ("2 at once in berlin",)


@given(
    paces,
    st.lists(st.tuples(st.floats(0.5, 200), st.integers(0, 8)), min_size=1, max_size=30),
)
def test_no_pace_is_exceeded_over_any_history(pace: Pace, history: list[tuple[float, int]]) -> None:
    """Each step some time passes, and so many devices of those released finish."""
    now, due, succeeded = NOW, list(DUE), 0
    released: list[float] = []
    installing: list[str] = []
    for passed, finished in history:
        now += passed
        done, installing = installing[:finished], installing[finished:]
        succeeded += len(done)
        busy = Counter(SITES[one] for one in installing)
        found = admitted(due, SITES, pace, Traffic(released, succeeded, busy), now)
        due = [one for one in due if one not in found.devices]
        installing += found.devices
        released += [now] * len(found.devices)

        limit = rate(pace, succeeded)
        span = max(MINUTE, MINUTE / limit)
        assert sum(at > now - span for at in released) <= max(1, limit * span / MINUTE) or (
            not found.devices
        )
        if pace.per_site:
            assert max(Counter(SITES[one] for one in installing).values(), default=0) <= (
                pace.per_site
            )
        assert due or not found.held_by


@given(paces, st.lists(st.floats(0, 300), max_size=20))
def test_the_next_is_admitted_just_when_it_was_said(pace: Pace, ago: list[float]) -> None:
    alone = pace.model_copy(update={"per_site": 0})
    traffic = idle(*sorted(NOW - one for one in ago))
    found = admitted(DUE, {}, alone, traffic, NOW)
    if math.isinf(found.again_at):
        return
    after = idle(*traffic.released_at, *[NOW] * len(found.devices))
    left = DUE[len(found.devices) :]

    assert found.again_at > NOW
    assert admitted(left, {}, alone, after, found.again_at - 0.01).devices == ()
    assert admitted(left, {}, alone, after, found.again_at + 0.01).devices
