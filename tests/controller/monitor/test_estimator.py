"""How sure and how right a classifier is, from counts alone, beside the labels that it never sees."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS, FINITE, Reference
from controller.monitor.estimator import Estimator, _rising, estimator_of, read
from controller.monitor.registration import build_reference
from protos.manifest import Semantic, Tensor

X = Tensor(name="x", dtype="FP32", shape=(-1, 2), semantic=Semantic.NUMERIC)
P = Tensor(name="p", dtype="FP32", shape=(-1, 3), semantic=Semantic.PROBABILITY)
LABEL = Tensor(name="label", dtype="INT64", shape=(-1,), semantic=Semantic.LABEL)
SCORE = Tensor(name="p", dtype="FP32", shape=(-1, 3), semantic=Semantic.SCORE)
EVEN = (1.0, 1.0, 1.0)


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def answers(rows: int, concentration: Sequence[float], seed: int) -> NDArray[np.float32]:
    return rng(seed).dirichlet(concentration, rows).astype(np.float32)


def rightness(answered: NDArray[np.float32], seed: int, *, boast: float = 1.0) -> NDArray[np.bool_]:
    """Whether each answer is right; its model is sure ``boast`` times as often as it may be."""
    chance = answered.max(axis=1) ** boast
    return np.asarray(rng(seed).random(len(answered)) < chance)


def made(
    outputs: dict[str, NDArray[np.float32]], right: NDArray[np.bool_] | None, *tensors: Tensor
) -> tuple[Reference, Estimator | None]:
    rows = len(outputs["p"])
    inputs = {"x": rng().normal(size=(rows, 2)).astype(np.float32)}
    reference = build_reference((X,), tensors, inputs, outputs, rng())
    return reference, estimator_of(reference, inputs, outputs, right)


def told(
    reference: Reference, outputs: dict[str, NDArray[np.float32]]
) -> tuple[list[int], list[float]]:
    """Counts and sums as a window bears them."""
    observer = Observer(reference)
    observer.observe({"x": np.zeros((len(outputs["p"]), 2), np.float32)}, outputs)
    counts = observer.drain()
    sums = np.column_stack([counts.sums.astype(np.float64), counts.least, counts.greatest])
    return counts.cells.ravel().tolist(), sums.ravel().tolist()


@pytest.mark.parametrize("boast", [1.0, 2.0])
@pytest.mark.parametrize("now", [EVEN, (4.0, 0.4, 0.4), (9.0, 9.0, 9.0)])
def test_the_estimate_is_near_the_truth_even_of_a_model_that_boasts(
    boast: float, now: Sequence[float]
) -> None:
    before = answers(8_000, EVEN, 1)
    reference, estimator = made({"p": before}, rightness(before, 2, boast=boast), P)
    after = answers(4_000, now, 3)
    assert estimator is not None

    reading = read(estimator, *told(reference, {"p": after}))

    assert reading is not None
    assert reading.answers == 4_000
    assert reading.confidence / 4_000 == pytest.approx(after.max(axis=1).mean(), abs=1e-3)
    assert reading.right is not None
    truth = rightness(after, 4, boast=boast).mean()
    assert reading.right / 4_000 == pytest.approx(truth, abs=0.035)


def test_on_the_reference_itself_the_estimate_is_the_accuracy() -> None:
    before = answers(2_000, EVEN, 1)
    right = rightness(before, 2)
    reference, estimator = made({"p": before}, right, P)
    assert estimator is not None

    reading = read(estimator, *told(reference, {"p": before}))

    assert reading is not None
    assert reading.right == pytest.approx(right.sum(), abs=0.01)


def test_windows_read_apart_add_up_to_those_read_together() -> None:
    before = answers(1_000, EVEN, 1)
    reference, estimator = made({"p": before}, rightness(before, 2), P)
    assert estimator is not None
    parts = [answers(200, EVEN, seed) for seed in (7, 8)]

    whole = read(estimator, *told(reference, {"p": np.concatenate(parts)}))
    apart = [read(estimator, *told(reference, {"p": part})) for part in parts]

    assert whole is not None
    assert whole.confidence == pytest.approx(sum(one.confidence for one in apart if one))
    assert whole.right == pytest.approx(sum(one.right or 0 for one in apart if one))


def test_without_truth_only_confidence_is_read_and_without_classes_nothing() -> None:
    before = answers(500, EVEN, 1)
    labels = before.argmax(axis=1)
    reference, blind = made({"p": before}, None, P)
    _, labelled = made({"p": before, "label": labels}, rightness(before, 2), P, LABEL)
    _, none = made({"p": before}, None, SCORE)

    assert blind is not None
    assert labelled is not None
    reading = read(blind, *told(reference, {"p": before}))
    assert reading is not None
    assert reading.right is None
    assert labelled.right
    assert none is None


def test_what_can_be_no_confidence_is_not_read() -> None:
    before = answers(500, EVEN, 1)
    reference, estimator = made({"p": before}, rightness(before, 2), P)
    assert estimator is not None
    counts, sums = told(reference, {"p": before})
    at = estimator.index

    def with_total(total: float) -> list[float]:
        return [*sums[: 4 * at], total, *sums[4 * at + 1 :]]

    assert read(estimator, counts, sums) is not None
    assert read(estimator, counts, with_total(2.0**62)) is None
    assert read(estimator, counts, with_total(-(2.0**62))) is None
    assert read(estimator, counts[CELLS:], sums) is None
    assert read(estimator, counts, sums[4:]) is None
    assert read(estimator, [0] * len(counts), sums) is None
    assert read(replace(estimator, right=()), counts, sums) is not None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=FINITE))
def test_shares_rise_keep_the_hits_and_lie_between_none_and_all(
    seen: list[tuple[int, int]],
) -> None:
    cells = np.array([rows for rows, _ in seen], np.float64)
    hits = np.array([min(right, rows) for rows, right in seen], np.float64)
    shares = _rising(cells, hits)

    assert list(shares) == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert cells @ np.array(shares) == pytest.approx(hits.sum(), abs=1e-3)
