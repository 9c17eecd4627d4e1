"""What comes next, and which nodes are drawn."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from controller.federated.coordinator.selection import (
    drawn,
    generator,
    ready,
    rotated,
    turn_after,
)
from controller.federated.exchange import Node
from controller.federated.plan import EvaluationTable
from controller.federated.schedule import (
    Place,
    Work,
    evaluated,
    failed,
    next_work,
    trained,
)


def story(rounds: int, table: EvaluationTable) -> list[str]:
    place, told = Place(), []
    while (work := next_work(place, rounds, table)) is not Work.NOTHING:
        told.append(f"{work[0]}{place.round}")
        place = trained(place) if work is Work.TRAIN else evaluated(place)
    return told


def test_evaluations_stand_where_the_run_file_has_them() -> None:
    assert story(2, EvaluationTable(before=False, after=False)) == ["t0", "t1"]
    assert story(2, EvaluationTable()) == ["e0", "t0", "t1", "e2"]
    assert story(3, EvaluationTable(every=1)) == ["e0", "t0", "e1", "t1", "e2", "t2", "e3"]
    assert story(3, EvaluationTable(before=False, after=False, every=3)) == ["t0", "t1", "t2"]


def test_a_round_in_vain_is_tried_again() -> None:
    place = failed(Place(step=4, round=2, evaluated=0))

    assert (place.step, place.round, place.attempts) == (5, 2, 1)
    assert next_work(place, 9, EvaluationTable()) is Work.TRAIN
    assert trained(place).attempts == 0


@given(st.sets(st.integers(2, 10_000), max_size=30), st.integers(0, 40), st.integers(0, 2**63))
def test_nodes_are_drawn_without_repetition_and_alike_for_a_seed(
    nodes: set[int], count: int, seed: int
) -> None:
    several = tuple(sorted(nodes))
    found = drawn(several, count, generator(seed, 3))

    assert found == drawn(several, count, generator(seed, 3))
    assert len(found) == min(count, len(several))
    assert list(found) == sorted(set(found) & nodes)


def test_over_many_rounds_each_is_asked_as_often() -> None:
    asked = Counter(
        node for step in range(2000) for node in drawn(range(2, 12), 3, generator(5, step))
    )

    assert set(asked) == set(range(2, 12))
    assert all(500 < count < 700 for count in asked.values())


def test_who_has_no_link_or_would_not_train_is_not_ready() -> None:
    nodes = [
        Node(9, "a", connected=True, eligible=True),
        Node(5, "b", connected=False, eligible=True),
        Node(7, "c", connected=True, eligible=False, reason="battery"),
        Node(3, "d", connected=True, eligible=True),
    ]

    assert ready(nodes) == (3, 9)


def turns(nodes: Sequence[int], count: int, rounds: int, seed: int = 5) -> list[tuple[int, ...]]:
    """Who is asked, round after round."""
    asked: frozenset[int] = frozenset()
    told = []
    for step in range(rounds):
        chosen = rotated(nodes, count, asked, generator(seed, step))
        asked = turn_after(asked, chosen)
        told.append(chosen)
    return told


@given(st.sets(st.integers(2, 10_000), min_size=1, max_size=30), st.integers(1, 40))
def test_in_rotation_nobody_is_asked_again_before_all_others(nodes: set[int], count: int) -> None:
    several = tuple(sorted(nodes))
    times: Counter[int] = Counter()

    for chosen in turns(several, count, rounds=40):
        assert len(set(chosen)) == len(chosen) == min(count, len(several))
        times.update(chosen)
        assert max(times.values()) - min(times[one] for one in several) <= 1


def test_every_turn_is_drawn_anew() -> None:
    told = turns(range(2, 22), 10, rounds=8)

    assert len(set(told)) == 8
    for first, second in zip(told[::2], told[1::2], strict=True):
        assert {*first, *second} == set(range(2, 22))


def test_who_comes_late_or_comes_back_is_asked_once_and_not_to_make_up_for_it() -> None:
    asked = turn_after(frozenset(range(2, 10)), [10, 11])

    first = rotated(range(2, 13), 3, asked, generator(1))
    second = rotated(range(2, 13), 3, turn_after(asked, first), generator(2))

    assert 12 in first
    assert 12 not in second


def test_a_turn_does_not_wait_for_who_has_gone() -> None:
    asked = turn_after(frozenset(), [2, 3, 4])

    assert rotated([2, 3, 4], 2, asked, generator(1)) != ()
    assert turn_after(asked, [2, 4]) == {2, 4}
    assert turn_after(frozenset({9}), [2]) == {2, 9}
