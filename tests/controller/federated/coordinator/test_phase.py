"""When a phase is over does not depend on when somebody looks."""

from hypothesis import given
from hypothesis import strategies as st

from controller.federated.coordinator.phase import Answer, Bounds, Close, Size, Wait, size, verdict

answers = st.lists(
    st.builds(Answer, st.integers(2, 50), st.integers(0, 100), st.booleans()),
    max_size=12,
    unique_by=lambda one: one.node,
)


def test_it_waits_for_quorum() -> None:
    came = [Answer(5, 10, good=True), Answer(4, 20, good=False)]

    assert verdict(Bounds(4, 2, 100), came, 50) == Wait(101)


def test_quorum_ends_it_and_later_replies_are_surplus() -> None:
    came = [Answer(5, 10, good=True), Answer(4, 30, good=True), Answer(3, 20, good=True)]

    found = verdict(Bounds(4, 2, 100), came, 31)

    assert found == Close(20, frozenset({5, 3}), "quorum: 2 of 4 replied well")


def test_everybody_ends_it_before_the_deadline() -> None:
    came = [Answer(5, 10, good=True), Answer(4, 20, good=False)]

    assert verdict(Bounds(2, 2, 100), came, 20) == Wait(21)
    found = verdict(Bounds(2, 2, 100), came, 21)
    assert found == Close(20, frozenset({5}), "everybody has answered")


def test_the_deadline_ends_it_and_what_comes_after_does_not_count() -> None:
    came = [Answer(5, 100, good=True), Answer(4, 101, good=True)]

    found = verdict(Bounds(3, 3, 100), came, 500)

    assert found == Close(100, frozenset({5}), "deadline: 1 of 3 had replied well")


def test_those_that_are_away_are_not_waited_for_once_patience_has_run_out() -> None:
    came = [Answer(5, 10, good=True), Answer(4, 20, good=True)]
    bounds, away = Bounds(4, 4, 900, fewest=2), {2: 60, 3: 70}

    assert verdict(bounds, came, 70, away) == Wait(71)
    why = "all within reach have answered: 2 of 4 replied well, 2 without a link"
    assert verdict(bounds, came, 71, away) == Close(70, frozenset({4, 5}), why)
    assert verdict(bounds, [*came, Answer(3, 65, good=True)], 71, away) == Close(
        65, frozenset({3, 4, 5}), why.replace("2 of", "3 of").replace("2 without", "1 without")
    )


def test_others_are_waited_for_and_so_are_too_many_that_are_away() -> None:
    came = [Answer(5, 10, good=True), Answer(4, 20, good=False)]

    assert verdict(Bounds(4, 4, 900, fewest=1), came, 800, {3: 60}) == Wait(901)
    assert verdict(Bounds(4, 4, 900, fewest=2), came, 800, {2: 60, 3: 60}) == Wait(901)
    assert verdict(Bounds(4, 4, 900, fewest=1), came, 800, {2: 60, 3: 950}) == Wait(901)


def test_nobody_asked_is_over_at_once() -> None:
    assert isinstance(verdict(Bounds(0, 1, 0), [], 50), Close)


@given(answers, st.integers(1, 6), st.integers(20, 80), st.integers(0, 200), st.integers(0, 200))
def test_whoever_looks_later_sees_the_same_end(
    came: list[Answer], wanted: int, deadline: int, first: int, later: int
) -> None:
    bounds = Bounds(8, wanted, deadline)
    seen = [one for one in came if one.at_ms <= first]
    found = verdict(bounds, seen, first)

    if isinstance(found, Close):
        assert verdict(bounds, came, first + later) == found
    else:
        assert found.until_ms > first


@given(
    answers,
    st.dictionaries(st.integers(2, 9), st.integers(0, 100), max_size=6),
    st.integers(20, 80),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_who_stays_away_is_given_up_at_the_same_moment_by_whoever_looks(
    came: list[Answer], away: dict[int, int], deadline: int, first: int, later: int
) -> None:
    here = [one for one in came if one.node not in away]
    bounds = Bounds(8, 8, deadline, fewest=1)
    found = verdict(bounds, [one for one in here if one.at_ms <= first], first, away)

    if isinstance(found, Close):
        assert found.at_ms <= deadline
        still = [one for one in here if one.at_ms <= found.at_ms]
        assert verdict(bounds, still, first + later, away) == found


def test_over_selection_asks_more_than_it_wants_and_quorum_wants_less() -> None:
    assert size(100, 0.1, 1.3, 1.0, 2) == Size(13, 10)
    assert size(100, 0.1, 1.3, 0.8, 2) == Size(13, 8)
    assert size(10, 1.0, 1.3, 0.8, 2) == Size(10, 8)
    assert size(10, 0.1, 1.0, 0.5, 3) == Size(3, 3)
    assert size(2, 1.0, 1.3, 1.0, 5) == Size(2, 2)
    assert size(0, 1.0, 1.3, 1.0, 1) == Size(0, 0)
    assert size(10, 0.3, 1.0, 1.0, 1) == Size(3, 3)  # 0.3 times 10 is a little more than 3


@given(
    st.integers(0, 300), st.floats(0.01, 1), st.floats(1, 3), st.floats(0.01, 1), st.integers(1, 20)
)
def test_never_more_are_wanted_than_asked_nor_asked_than_ready(
    ready: int, fraction: float, over: float, quorum: float, minimum: int
) -> None:
    found = size(ready, fraction, over, quorum, minimum)

    assert found.wanted <= found.asked <= ready
    assert found.wanted >= min(minimum, ready)
