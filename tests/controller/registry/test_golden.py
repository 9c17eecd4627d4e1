from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.inference.golden import Tolerance, compare, decode, encode
from controller.registry.golden import MAX_GOLDEN_ROWS, choose, golden, tolerances
from controller.registry.signature import Signature
from protos.manifest import Semantic, Tensor

CLASSIFIER = Signature(
    (),
    (
        Tensor(name="label", dtype="INT64", shape=(-1,), semantic=Semantic.LABEL),
        Tensor(name="p", dtype="FP32", shape=(-1, 2), semantic=Semantic.PROBABILITY),
    ),
)
REGRESSION = Signature((), (Tensor(name="z", dtype="FP64", shape=(-1,), semantic=Semantic.SCORE),))

Arrays = Mapping[str, NDArray[Any]]


def answers(labels: NDArray[np.int64], lead: float = 0.5) -> Arrays:
    high = np.full(len(labels), 0.5 + lead / 2, np.float32)
    return {"label": labels, "p": np.stack([high, 1 - high], axis=1)}


def inputs(rows: int) -> Arrays:
    return {"x": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=300))
def test_every_class_has_a_row_and_no_row_is_chosen_twice(labels: list[int]) -> None:
    rows = choose(CLASSIFIER, inputs(len(labels)), answers(np.array(labels)), row_at_a_time=False)

    assert {labels[row] for row in rows} == set(labels)
    assert len(set(rows.tolist())) == len(rows) <= MAX_GOLDEN_ROWS
    assert rows.tolist() == sorted(rows)


def test_without_classes_the_rows_are_spread_evenly() -> None:
    rows = choose(REGRESSION, inputs(151), {"z": np.zeros(151)}, row_at_a_time=False)

    assert rows.tolist() == list(range(0, 151, 10))


def test_rows_that_the_model_is_unsure_of_are_not_chosen() -> None:
    outputs = answers(np.zeros(100, np.int64))
    outputs["p"][:90] = 0.5

    rows = choose(CLASSIFIER, inputs(100), outputs, row_at_a_time=False)

    assert rows.min() >= 90


def test_a_model_that_is_sure_of_nothing_is_tested_all_the_same() -> None:
    outputs = answers(np.arange(20) % 2, lead=0.0)

    assert choose(CLASSIFIER, inputs(20), outputs, row_at_a_time=False).size


def test_large_rows_and_models_for_one_row_get_fewer_vectors() -> None:
    large = {"x": np.zeros((40, 1_000_000), np.float32)}

    assert len(choose(REGRESSION, large, {"z": np.zeros(40)}, row_at_a_time=False)) == 2
    assert len(choose(REGRESSION, inputs(40), {"z": np.zeros(40)}, row_at_a_time=True)) == 1


def test_labels_must_be_equal_and_numbers_close_by_their_precision_and_size() -> None:
    found = tolerances(REGRESSION, {"z": np.array([1.0, -200.0, np.inf])})

    assert tolerances(CLASSIFIER, answers(np.zeros(2, np.int64)))["label"] == Tolerance()
    assert found["z"].absolute == pytest.approx(200e-6)
    assert found["z"].relative == 1e-4


def test_a_device_accepts_rounding_and_refuses_another_answer() -> None:
    outputs = answers(np.array([0, 1, 0]))
    vectors = decode(encode(golden(CLASSIFIER, inputs(3), outputs)))

    rounded = {**outputs, "p": outputs["p"] * np.float32(1 + 1e-6)}
    assert compare(vectors, rounded).objections == ()
    wrong = {**outputs, "p": outputs["p"] + np.float32(0.01)}
    assert "output 'p'" in compare(vectors, wrong).objections[0]
    other = {**outputs, "label": np.array([0, 1, 1])}
    assert "output 'label'" in compare(vectors, other).objections[0]
