"""What a few devices say of a candidate neither rejects it nor lets it pass."""

import numpy as np
import pytest

from agent.federated.evaluation import BINS, Evaluation, evaluated
from controller.candidate.gates import candidate_gates
from controller.candidate.trained import metrics_of
from controller.federated.coordinator.hearing import heard
from controller.registry.gates import Candidate
from controller.registry.metrics import ACCURACY, MACRO_F1
from protos.train_step import Loss

CLASSES = 10
MOST = 10_000


def told(seed: int, skill: float = 2.0) -> Evaluation:
    """What an honest device tells of a hundred examples that are its own."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, CLASSES, 100)
    logits = draw.normal(size=(100, CLASSES)) + skill * np.eye(CLASSES)[truth]
    return evaluated(Loss.SOFTMAX_CROSS_ENTROPY, 0.1, logits, truth)


def lie(correct: int) -> Evaluation:
    """As right as all others; all of it in one class, and what is not, spread over the rest."""
    wrong = 100 - correct
    cells = np.zeros((CLASSES, CLASSES), np.int64)
    cells[0, 0] = correct
    for miss in range(wrong):
        truth = 1 + miss % (CLASSES - 1)
        cells[truth, 1 + truth % (CLASSES - 1)] += 1
    return Evaluation(
        examples=100,
        loss_sum=10.0,
        judged=100,
        correct=correct,
        confusion=tuple(cells.ravel().tolist()),
        confidences=(*(BINS - 1) * (0,), 100),
        confident_correct=(*(BINS - 1) * (0,), correct),
    )


def judged(after: Evaluation, before: Evaluation) -> Candidate:
    return Candidate(
        rows=after.examples,
        not_finite={},
        unsteady={},
        latency_p99_seconds=0.001,
        memory_bytes=1,
        metrics=metrics_of(after),
        parent="digits/1",
        parent_metrics=metrics_of(before),
    )


@pytest.mark.parametrize(("devices", "liars"), [(3, 1), (10, 2)])
def test_misses_that_a_few_make_up_in_classes_of_their_choice_reject_no_candidate(
    devices: int, liars: int
) -> None:
    honest = [told(seed) for seed in range(devices)]
    right = sorted(one.correct for one in honest)[devices // 2]
    before = heard(honest, MOST)

    after = heard([*(lie(right) for _ in range(liars)), *honest[liars:]], MOST)

    found = judged(after, before)
    assert found.metrics[MACRO_F1] < found.parent_metrics[MACRO_F1] - 0.01
    assert found.metrics[ACCURACY] == pytest.approx(found.parent_metrics[ACCURACY], abs=0.02)
    assert candidate_gates().objections(found) == ()


def test_hits_that_a_few_make_up_let_no_candidate_pass() -> None:
    before = heard([told(seed) for seed in range(10)], MOST)

    after = heard([lie(100), lie(100), *(told(seed, 1.0) for seed in range(8))], MOST)

    (said,) = candidate_gates().objections(judged(after, before))
    assert said.startswith("accuracy is 0.")
