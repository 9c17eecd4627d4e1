"""What comes next, and which nodes are drawn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controller.federated.coordinator.schedule import (
    Place,
    Work,
    evaluated,
    failed,
    next_work,
    trained,
)
from controller.federated.coordinator.selection import drawn, generator, ready
from controller.federated.exchange import Node
from controller.federated.plan import EvaluationTable


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
