"""Counts of how good a model is: right by hand, and the same however devices are grouped."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.federated.evaluation import (
    BINS,
    MOST_CLASSES,
    Evaluation,
    evaluated,
    nothing,
    read_evaluation,
)
from protos.errors import DocumentError
from protos.train_step import Loss

LOSSES = [Loss.SOFTMAX_CROSS_ENTROPY, Loss.BCE_WITH_LOGITS, Loss.MSE, Loss.RECONSTRUCTION]


@st.composite
def evaluations(draw: st.DrawFn, loss: Loss) -> Evaluation:
    """Of a few rows of whole numbers, so that sums are exact whatever their order."""
    rows = draw(st.integers(0, 5))
    if not rows:
        return draw(st.sampled_from([nothing(loss, 3), Evaluation()]))
    whole = st.integers(-9, 9)
    width = 3 if loss is Loss.SOFTMAX_CROSS_ENTROPY else 1
    output = np.array(draw(st.lists(whole, min_size=rows * width, max_size=rows * width)))
    mean = float(draw(st.integers(0, 9)))
    match loss:
        case Loss.SOFTMAX_CROSS_ENTROPY:
            truth: Any = np.array(draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)))
        case Loss.BCE_WITH_LOGITS:
            truth = np.array(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))
        case Loss.RECONSTRUCTION:
            truth = None
        case _:
            truth = np.array(draw(st.lists(whole, min_size=rows, max_size=rows)))
    if truth is not None and loss is not Loss.SOFTMAX_CROSS_ENTROPY:
        truth = truth.reshape(rows, 1).astype(np.float32)
    return evaluated(loss, mean, output.reshape(rows, width).astype(np.float32), truth)


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=50)
@given(data=st.data())
def test_devices_may_be_merged_in_any_order_and_any_groups(loss: Loss, data: st.DataObject) -> None:
    one, two, three = (data.draw(evaluations(loss)) for _ in range(3))

    assert one.merge(two).merge(three) == one.merge(two.merge(three))
    together = one.merge(two)
    assert together.examples == one.examples + two.examples
    if one.examples and two.examples:
        assert together == two.merge(one)
    assert one.merge(Evaluation()) == one
    if together.examples:
        assert read_evaluation(together.metrics()) == together


def test_classes_are_counted_by_hand() -> None:
    logits = np.log(np.array([[0.75, 0.15, 0.1], [0.1, 0.65, 0.25], [0.55, 0.2, 0.25]], np.float32))

    found = evaluated(Loss.SOFTMAX_CROSS_ENTROPY, 0.5, logits, np.array([0, 2, 0]))

    assert (found.examples, found.loss, found.judged, found.correct) == (3, 0.5, 3, 2)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.confusion == (2, 0, 0, 0, 0, 0, 0, 1, 0)
    assert found.confidences == (0, 0, 0, 0, 0, 1, 1, 1, 0, 0)
    assert found.confident_correct == (0, 0, 0, 0, 0, 1, 0, 1, 0, 0)


def test_yes_or_no_is_judged_by_element() -> None:
    logits = np.array([[3.0, -3.0], [-1.0, -9.0]], np.float32)

    found = evaluated(Loss.BCE_WITH_LOGITS, 0.1, logits, np.array([[1, 1], [0, 0]], np.float32))

    assert (found.examples, found.judged, found.correct) == (2, 4, 3)
    assert found.confusion == (2, 0, 1, 1)


def test_numbers_have_errors_and_no_accuracy() -> None:
    output, truth = np.array([[1.0], [4.0]]), np.array([[2.0], [2.0]])

    found = evaluated(Loss.MSE, 2.5, output, truth)

    assert (found.absolute_error_sum, found.squared_error_sum) == (3.0, 5.0)
    assert (found.truth_sum, found.truth_squared_sum, found.accuracy) == (4.0, 8.0, None)
    assert "confusion" not in found.metrics()


def test_with_very_many_classes_there_is_no_matrix() -> None:
    logits = np.eye(MOST_CLASSES + 1, dtype=np.float32)

    found = evaluated(Loss.SOFTMAX_CROSS_ENTROPY, 1.0, logits, np.arange(MOST_CLASSES + 1))

    assert (found.confusion, found.correct) == ((), MOST_CLASSES + 1)
    assert found.merge(nothing(Loss.SOFTMAX_CROSS_ENTROPY, MOST_CLASSES + 1)) == found


def test_no_examples_are_told_with_the_same_keys_as_some() -> None:
    some = evaluated(Loss.NLL, 1.0, np.zeros((2, 3), np.float32), np.array([0, 1]))
    none = nothing(Loss.NLL, 3)

    assert none.metrics().keys() == some.metrics().keys()
    assert (none.loss, none.accuracy) == (None, None)


GOOD = evaluated(Loss.NLL, 1.0, np.zeros((4, 2), np.float32), np.array([0, 1, 0, 0]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"examples": -1}, "examples is no count"),
        ({"examples": True}, "examples is no count"),
        ({"examples": 1.0}, "examples is no count"),
        ({"examples": 2**60}, "examples is no count"),
        ({"examples": None}, "examples is no count"),
        ({"loss-sum": float("nan")}, "loss-sum is no finite number"),
        ({"loss-sum": "1"}, "loss-sum is no finite number"),
        ({"correct": 5}, "more were right than were judged"),
        ({"loss-sum": 1e300}, "larger than its numbers"),
        ({"truth-sum": -1e300}, "larger than its numbers"),
        ({"squared-error-sum": 1e300}, "larger than its numbers"),
        ({"absolute-error-sum": -1.0}, "negative"),
        ({"squared-error-sum": -1.0}, "negative"),
        ({"confusion": [4]}, "add up"),
        ({"confusion": [3, 0, 1]}, "not square"),
        ({"confusion": [0] * (MOST_CLASSES**2 + 1)}, "no list of counts"),
        ({"confusion": [2, 1, 1, -1]}, "no count"),
        ({"confidences": [4]}, f"not of {BINS} bins"),
        ({"confidences": [9] * BINS}, "add up"),
        ({"confident-correct": [0] * BINS}, "add up"),
    ],
)
def test_counts_that_cannot_be_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        read_evaluation({**GOOD.metrics(), **change})


def test_numbers_as_far_off_as_a_float32_can_be_are_told() -> None:
    most = np.finfo(np.float32).max
    found = evaluated(
        Loss.MSE, float(most), np.full((4, 2), most, np.float32), np.full((4, 2), -most)
    )

    assert read_evaluation(found.metrics()) == found


def test_models_with_different_classes_are_not_merged() -> None:
    other = evaluated(Loss.NLL, 1.0, np.zeros((1, 3), np.float32), np.array([0]))

    with pytest.raises(ValueError, match="argument"):
        GOOD.merge(other)


def test_every_count_is_told() -> None:
    told = replace(GOOD).metrics()

    assert {one.name.replace("_", "-") for one in fields(Evaluation)} == set(told)
