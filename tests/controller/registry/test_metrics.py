import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score  # type: ignore[import-untyped]

from controller.errors import BadReference
from controller.registry.metrics import macro_f1, metrics
from controller.registry.signature import Signature
from protos.manifest import Semantic, Tensor


def signature(**outputs: tuple[Semantic, tuple[int, ...]]) -> Signature:
    return Signature(
        (),
        tuple(
            Tensor(name=name, dtype="FP32", shape=shape, semantic=semantic)
            for name, (semantic, shape) in outputs.items()
        ),
    )


CLASSIFIER = signature(label=(Semantic.LABEL, (-1,)), p=(Semantic.PROBABILITY, (-1, 2)))
LABELS = np.array([0, 1, 1, 0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T

    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_a_classifier_is_judged_by_its_labels() -> None:
    found = metrics(CLASSIFIER, {"label": LABELS}, np.array([0, 1, 0, 0]))

    assert found == {"accuracy": 0.75, "macro_f1": pytest.approx((0.8 + 2 / 3) / 2)}


@pytest.mark.parametrize(
    ("shares", "shape"),
    [([[0.9, 0.1], [0.2, 0.8]], (-1, 2)), ([[0.1], [0.8]], (-1, 1))],
)
def test_without_labels_the_highest_probability_counts(
    shares: list[list[float]], shape: tuple[int, ...]
) -> None:
    only = signature(p=(Semantic.PROBABILITY, shape))

    assert metrics(only, {"p": np.array(shares)}, np.array([0, 1]))["accuracy"] == 1.0


def test_texts_are_compared_as_texts() -> None:
    names = np.array(["cat", "dog"], dtype=object)

    assert metrics(CLASSIFIER, {"label": names}, names[::-1].copy())["accuracy"] == 0.0


def test_a_regression_is_judged_by_its_errors() -> None:
    found = metrics(
        signature(z=(Semantic.SCORE, (-1, 1))),
        {"z": np.array([[1.0], [2.0]], np.float32)},
        np.array([1, 5]),
    )

    assert found == {"mae": 1.5, "rmse": pytest.approx(np.sqrt(4.5))}


def test_what_is_neither_has_no_metrics() -> None:
    assert metrics(signature(z=(Semantic.SCORE, (-1, 3))), {}, LABELS) == {}


@pytest.mark.parametrize(
    ("model", "truth", "reason"),
    [
        (CLASSIFIER, np.array(["a", "b"], object), "the truth is text"),
        (CLASSIFIER, np.array([0.5, 1.0]), "the truth has fractions or NaN"),
        (CLASSIFIER, np.array([np.nan, 1.0]), "the truth has fractions or NaN"),
        (signature(label=(Semantic.SCORE, (-1,))), np.array(["a", "b"], object), "gives numbers"),
    ],
)
def test_a_truth_that_cannot_be_compared_is_refused(
    model: Signature, truth: NDArray[np.generic], reason: str
) -> None:
    with pytest.raises(BadReference, match=reason):
        metrics(model, {"label": np.array([0, 1])}, truth)
