"""What of a profile can be counted from sums, for outputs of every kind."""

import functools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.federated.evaluation import Evaluation, evaluated
from agent.monitor.counts import Counts
from agent.monitor.observer import Observer
from agent.monitor.reference import FIRST, OTHER, Reference, read_reference
from controller.candidate.errors import NoCandidate
from controller.candidate.profile import Answers, CandidateProfile, candidate_profile
from controller.candidate.trained import metrics_of
from controller.monitor.registration import build_reference
from controller.registry.metrics import metrics
from controller.registry.signature import Signature
from protos.manifest import Semantic, Tensor
from protos.train_step import Loss

ROWS = 500
Arrays = dict[str, NDArray[Any]]

X = Tensor(name="x", dtype="FP32", shape=(-1, 2), semantic=Semantic.NUMERIC)
LABEL = Tensor(name="label", dtype="INT64", shape=(-1,), semantic=Semantic.LABEL)
WORD = Tensor(name="word", dtype="BYTES", shape=(-1,), semantic=Semantic.LABEL)
SHARES = Tensor(name="shares", dtype="FP32", shape=(-1, 3), semantic=Semantic.PROBABILITY)
SCORE = Tensor(name="score", dtype="FP32", shape=(-1, 1), semantic=Semantic.SCORE)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def inputs(rows: int = ROWS, shift: float = 0.0, seed: int = 1) -> Arrays:
    return {"x": (rng(seed).normal(size=(rows, 2)) + shift).astype(np.float32)}


def shares(rows: int = ROWS, seed: int = 2) -> NDArray[np.float32]:
    logits = 2 * rng(seed).normal(size=(rows, 3))
    found = np.exp(logits)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float32)


def outputs(tensor: Tensor, rows: int = ROWS) -> Arrays:
    given = shares(rows)
    words = np.array(["cat", "cow", "dog"], object)
    every: Arrays = {
        "label": given.argmax(axis=1),
        "word": words[given.argmax(axis=1)],
        "shares": given,
        "score": given[:, :1],
    }
    return {tensor.name: every[tensor.name]}


@functools.cache
def parent(tensor: Tensor, *watched: Tensor) -> Reference:
    return build_reference((*watched,), (tensor,), inputs(), outputs(tensor), rng())


def window(profile: Reference, tensor: Tensor, rows: int = ROWS) -> Counts:
    observer = Observer(profile)
    observer.observe(inputs(rows, shift=1.0, seed=5), outputs(tensor, rows))
    return observer.drain()


def evaluation() -> Evaluation:
    """Of a model that says class 1 of every row, and is as sure of it as ``shares`` lets it."""
    logits = np.log(shares(400, seed=9)) + np.array([0, 20, 0])
    return evaluated(Loss.SOFTMAX_CROSS_ENTROPY, 0.1, logits, np.arange(400) % 3)


def made(tensor: Tensor, labels: tuple[int | str, ...] = (0, 1, 2)) -> CandidateProfile:
    profile = parent(tensor, X)
    told = Answers(evaluation(), labels)
    found = candidate_profile(profile, [window(profile, tensor)] * 2, told, rng())
    assert read_reference(found.reference.encode()) == found.reference
    assert found.reference.rows == 2 * ROWS
    return found


def test_labels_are_counted_as_the_candidate_gives_them() -> None:
    series = made(LABEL).reference.series[-1]

    assert series.name == "label"
    assert series.counts[FIRST + series.categories.index(1.0)] == 2 * ROWS
    assert series.sums[2:] == (1.0, 1.0)


def test_labels_that_are_texts_are_found_by_what_the_columns_stand_for() -> None:
    series = made(WORD, ("cat", "cow", "dog")).reference.series[-1]

    assert series.counts[FIRST + series.categories.index("cow")] == 2 * ROWS


def test_a_label_that_the_parent_did_not_know_is_another() -> None:
    assert made(WORD, ("cat", "emu", "dog")).reference.series[-1].counts[OTHER] == 2 * ROWS


def test_without_a_label_the_surest_class_and_its_confidence_are_counted() -> None:
    found = made(SHARES)
    confidence, top = found.reference.series[-2:]

    assert confidence.name == "shares.confidence"
    assert sum(confidence.counts[FIRST + 9 :]) == 2 * ROWS  # above nine tenths, all of them
    assert top.counts[FIRST + 1] == 2 * ROWS
    assert found.estimator is not None
    assert found.estimator.right[FIRST + 9] == pytest.approx(1 / 3, abs=0.01)


def test_an_output_of_which_nothing_is_told_is_not_watched_and_a_note_says_so() -> None:
    found = made(SCORE)

    assert [one.tensor for one in found.reference.sources] == ["x"]
    assert "output 'score' is not watched" in found.notes[-1]


def test_a_profile_of_nothing_is_none() -> None:
    profile = parent(SCORE)

    with pytest.raises(NoCandidate, match="nothing of the parent's profile"):
        candidate_profile(
            profile, [window(profile, SCORE)], Answers(evaluation(), (0, 1, 2)), rng()
        )


@pytest.mark.parametrize("rows", [0, 150])
def test_with_too_few_predictions_the_parents_profile_is_kept(rows: int) -> None:
    profile = parent(LABEL, X)
    windows = [window(profile, LABEL, rows)] if rows else []

    found = candidate_profile(profile, windows, Answers(evaluation(), (0, 1, 2)), rng())

    assert found.reference is profile
    assert f"devices have told of {rows} predictions, and 300 are needed" in found.notes[0]


def test_metrics_are_those_that_the_rows_themselves_would_give() -> None:
    logits = rng(4).normal(size=(300, 3))
    truth = rng(5).integers(0, 3, 300)

    told = evaluated(Loss.SOFTMAX_CROSS_ENTROPY, 0.5, logits, truth)

    signature = Signature((X,), (LABEL,))
    assert metrics_of(told) == pytest.approx(
        metrics(signature, {"label": logits.argmax(axis=1)}, truth)
    )


def test_metrics_of_numbers_are_their_errors() -> None:
    score, truth = rng(4).normal(size=(200, 1)), rng(5).normal(size=200)

    told = evaluated(Loss.MSE, 0.5, score, truth)

    signature = Signature((X,), (SCORE,))
    assert metrics_of(told) == pytest.approx(metrics(signature, {"score": score}, truth))
    assert metrics_of(Evaluation()) == {}
