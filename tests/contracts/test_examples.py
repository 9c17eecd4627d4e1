"""What every ``ExampleStore`` promises."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import StoreError
from agent.federated.examples import Example, ExampleStore, Held, Part, examples_of
from agent.federated.layout import TRUTH, Field, Layout, packed, records
from agent.federated.retention import Retention
from agent.store.sqlite_examples import EXAMPLES_NAME, SqliteExamples
from simulations.memory_examples import Kept, MemoryExamples

Opener = Callable[..., ExampleStore]
LAYOUT = Layout(inputs=(Field("x", "FP32", (2,)),), truth=Field(TRUTH, "INT64", ()), classes=3)
OTHER = Layout(inputs=(Field("x", "FP32", (3,)),), truth=Field(TRUTH, "INT64", ()), classes=3)
ROOM = Retention(examples=1000, hold_out=0.0)


@pytest.fixture(params=["sqlite", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    kept = Kept()

    def sqlite(retention: Retention = ROOM) -> ExampleStore:
        return SqliteExamples(tmp_path / EXAMPLES_NAME, retention)

    def memory(retention: Retention = ROOM) -> ExampleStore:
        return MemoryExamples(retention, kept)

    return sqlite if request.param == "sqlite" else memory


def told(
    classes: list[int], at: float = 100.0, source: str = "r", retention: Retention = ROOM
) -> list[Example]:
    """One example for each class, whose inputs are its number and its place."""
    x = np.array([[float(one), place] for place, one in enumerate(classes)], np.float32)
    rows = packed(LAYOUT, {"x": x}, np.array(classes))
    return examples_of(LAYOUT, rows, retention, at, source)


def read(store: ExampleStore, part: Part = Part.TRAINING) -> list[tuple[int, float]]:
    """Class and place of every row."""
    data = b"".join(store.rows("digits", LAYOUT, part))
    return [(int(row[TRUTH]), float(row["x"][1])) for row in records(LAYOUT, data)]


def test_rows_come_back_in_the_order_in_which_they_came_over_a_restart(opened: Opener) -> None:
    store = opened()
    store.add("digits", LAYOUT, told([2, 0], at=1.0, source="a"))
    store.add("digits", LAYOUT, told([1] * 600, at=2.0, source="b"))
    store.close()
    store.close()

    again = opened()

    assert read(again) == [(2, 0.0), (0, 1.0), *((1, float(place)) for place in range(600))]
    size = 602 * LAYOUT.row_bytes
    assert again.held("digits", LAYOUT) == Held(training=602, held_out=0, size=size)
    assert again.models() == [("digits", Held(training=602, held_out=0, size=size))]


def test_large_rows_come_a_few_at_a_time(opened: Opener) -> None:
    store = opened()
    wide = Layout(inputs=(Field("x", "FP32", (100_000,)),), truth=None)
    rows = packed(wide, {"x": np.ones((7, 100_000), np.float32)}, None)
    store.add("images", wide, examples_of(wide, rows, ROOM, 1.0, "a"))

    pieces = [len(one) for one in store.rows("images", wide, Part.TRAINING)]

    assert pieces == [2 * wide.row_bytes] * 3 + [wide.row_bytes]


def test_models_and_layouts_are_kept_apart(opened: Opener) -> None:
    store = opened()
    store.add("digits", LAYOUT, told([1]))
    store.add("letters", LAYOUT, told([2]))
    rows = packed(OTHER, {"x": np.zeros((1, 3), np.float32)}, np.array([0]))
    store.add("digits", OTHER, examples_of(OTHER, rows, ROOM, 100.0, "o"))

    assert read(store) == [(1, 0.0)]
    assert store.held("digits", OTHER).examples == 1
    assert [(model, held.examples) for model, held in store.models()] == [
        ("digits", 2),
        ("letters", 1),
    ]
    assert store.held("unknown", LAYOUT) == Held()
    assert list(store.rows("unknown", LAYOUT, Part.TRAINING)) == []


def test_the_same_source_takes_the_place_of_what_it_told_before(opened: Opener) -> None:
    store = opened()
    store.add("digits", LAYOUT, told([1, 1], source="a"))
    store.add("digits", LAYOUT, told([2, 2], source="a"))

    assert sorted(read(store)) == [(2, 0.0), (2, 1.0)]


def test_what_is_held_out_is_so_by_its_inputs_alone_and_by_its_share(opened: Opener) -> None:
    share = Retention(examples=5000, hold_out=0.2)
    store = opened(share)
    store.add("digits", LAYOUT, told([0] * 1000, at=1.0, source="a", retention=share))
    first = read(store, Part.HELD_OUT)
    store.add("digits", LAYOUT, told([0] * 1000, at=2.0, source="b", retention=share))

    held = store.held("digits", LAYOUT)
    assert read(store, Part.HELD_OUT) == first * 2
    assert set(read(store)).isdisjoint(first)
    assert 320 < held.held_out < 480
    assert held.examples == 2000


def test_the_oldest_of_the_largest_class_goes_first(opened: Opener) -> None:
    few = Retention(examples=6, hold_out=0.0)
    store = opened(few)
    store.add("digits", LAYOUT, told([1], at=1.0, source="rare"))
    for at in range(2, 12):
        floor = store.add("digits", LAYOUT, told([0], at=float(at), source=f"{at}"))

    store.add("digits", LAYOUT, told([0, 2, 2], at=20.0, source="last"))

    assert floor == 7.0, "the oldest of the five that are kept of the common class"
    assert sorted(one for one, _ in read(store)) == [0, 0, 0, 1, 2, 2]


def test_what_is_kept_has_its_bound_in_bytes(opened: Opener) -> None:
    store = opened(Retention(examples=100, size=3 * LAYOUT.row_bytes, hold_out=0.0))

    assert store.add("digits", LAYOUT, told([0, 0], at=1.0, source="a")) == -math.inf
    assert store.add("digits", LAYOUT, told([0, 0], at=2.0, source="b")) == 1.0
    assert store.held("digits", LAYOUT).size == 3 * LAYOUT.row_bytes


def test_an_example_larger_than_all_room_pushes_nothing_out(opened: Opener) -> None:
    store = opened(Retention(examples=100, size=LAYOUT.row_bytes, hold_out=0.0))
    store.add("digits", LAYOUT, told([0], source="a"))
    wide = packed(OTHER, {"x": np.zeros((1, 3), np.float32)}, np.array([0]))

    store.add("digits", OTHER, examples_of(OTHER, wide, ROOM, 200.0, "b"))

    assert read(store) == [(0, 0.0)]
    assert store.held("digits", OTHER) == Held()


def test_no_example_is_kept_for_longer_than_it_may_be(opened: Opener) -> None:
    store = opened(Retention(seconds=50.0, hold_out=0.0))
    store.add("digits", LAYOUT, told([1], at=100.0, source="a"))
    store.add("digits", LAYOUT, told([2], at=120.0, source="b"))

    assert store.expire(150.0) == 0
    assert store.expire(160.0) == 1
    assert read(store) == [(2, 0.0)]


def test_examples_are_forgotten_by_model_or_all_together(opened: Opener) -> None:
    store = opened()
    for model in ("digits", "letters", "tones"):
        store.add(model, LAYOUT, told([1, 2]))

    assert store.clear("letters") == 2
    assert [model for model, _ in store.models()] == ["digits", "tones"]
    assert store.clear() == 4
    assert store.models() == []
    store.add("digits", LAYOUT, told([1]))
    assert read(store) == [(1, 0.0)]


def test_a_closed_store_says_so(opened: Opener) -> None:
    store = opened()
    store.close()

    with pytest.raises(StoreError, match="closed"):
        store.models()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(classes=st.lists(st.integers(0, 3), max_size=40), room=st.integers(1, 12))
def test_a_class_loses_examples_only_while_none_is_larger(
    opened: Opener, classes: list[int], room: int
) -> None:
    retention = Retention(examples=room, hold_out=0.0)
    store = opened(retention)
    store.clear()
    for at, one in enumerate(classes):
        store.add("digits", LAYOUT, told([one], at=float(at), source=f"{at}"))

    kept = [one for one, _ in read(store)]
    counts = {one: kept.count(one) for one in set(classes)}

    assert len(kept) == min(room, len(classes))
    for one, count in counts.items():
        if count < classes.count(one):
            assert max(counts.values()) <= count + 1
    store.close()
