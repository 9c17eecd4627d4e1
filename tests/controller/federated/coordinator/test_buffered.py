"""FedBuff's decisions: what makes a version does not depend on when somebody looks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.federated.coordinator.buffered import Arrival, Buffer, discount, free, taken

arrivals = st.lists(
    st.builds(
        lambda node, version, at, good: Arrival(f"{node}-{version}", node, version, at, good),
        st.integers(2, 6),
        st.integers(0, 3),
        st.integers(0, 100),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda one: one.task,
)


def came(node: int, at_ms: int, *, good: bool = True, version: int = 0) -> Arrival:
    return Arrival(f"{node}-{version}", node, version, at_ms, good)


def test_a_full_buffer_makes_a_version_of_those_that_came_first() -> None:
    several = [came(4, 30), came(3, 10), came(5, 20, good=False), came(2, 25)]

    assert taken(several, 2, 2, 1000, 25) is None
    found = taken(several, 2, 2, 1000, 26)

    assert found is not None
    assert [one.node for one in found.counted] == [2, 3]
    assert [one.node for one in found.judged] == [3, 5, 2]


def test_one_device_alone_makes_no_version() -> None:
    fast = [came(2, at, version=at) for at in range(5)]

    assert taken(fast, 3, 2, 1000, 500) is None
    found = taken([*fast, came(3, 50)], 3, 2, 1000, 500)
    assert found is not None
    assert {one.node for one in found.counted} == {2, 3}


def test_at_the_deadline_fewer_will_do_if_they_are_of_enough_devices() -> None:
    assert taken([came(2, 5), came(3, 6)], 5, 2, 100, 100) is None
    found = taken([came(2, 5), came(3, 6), came(4, 101)], 5, 2, 100, 102)
    assert found is not None
    assert [one.node for one in found.counted] == [2, 3]
    nothing = taken([came(2, 5)], 5, 2, 100, 101)
    assert nothing is not None
    assert nothing.counted == nothing.judged == ()


@given(arrivals, st.integers(1, 4), st.integers(1, 3), st.integers(0, 200), st.integers(0, 200))
def test_whoever_looks_later_takes_the_same(
    several: list[Arrival], buffer: int, fewest: int, first: int, later: int
) -> None:
    found = taken([one for one in several if one.at_ms <= first], buffer, fewest, 80, first)

    if found is not None:
        assert taken(several, buffer, fewest, 80, first + later) == found


def test_an_update_weighs_less_the_older_it_is() -> None:
    assert [round(discount(age), 3) for age in (0, 1, 3, 8)] == [1.0, 0.707, 0.5, 0.333]


def test_who_is_at_work_or_was_asked_for_this_version_is_not_asked() -> None:
    assert free((2, 3, 4, 5), frozenset({3}), frozenset({5})) == (2, 4)


def test_the_next_parameters_are_moved_by_the_mean_of_what_was_learnt() -> None:
    buffer = Buffer()
    old = {"w": np.array([1, 1], np.float32)}
    new = {"w": np.array([2, 5], np.float32)}
    buffer.add({"w": old["w"] + np.float32(1)}, old, 1.0)
    buffer.add({"w": new["w"] + np.float32(2)}, new, 0.5)

    moved = buffer.moved(new)

    assert moved["w"].tolist() == pytest.approx([3, 6])
    assert moved["w"].dtype == np.float32
