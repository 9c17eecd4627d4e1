"""What devices tell of held-out examples, taken together: a few that lie do not decide it."""

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.federated.evaluation import FARTHEST, Evaluation, evaluated, read_evaluation
from controller.candidate.trained import metrics_of
from controller.federated.coordinator.hearing import SHARE, heard
from controller.registry.metrics import ACCURACY, MACRO_F1
from protos.train_step import Loss

MOST = 10_000
CLASSES = 3
CLASSIFIED, NUMBERS = Loss.SOFTMAX_CROSS_ENTROPY, Loss.MSE


def told(seed: int, rows: int, loss: Loss = CLASSIFIED, skill: float = 2.0) -> Evaluation:
    """What an honest device tells whose examples are its own."""
    draw = np.random.default_rng(seed)
    if loss is NUMBERS:
        numbers = draw.normal(size=(rows, 2))
        return evaluated(loss, 0.3, numbers + draw.normal(size=(rows, 2)), numbers)
    truth = draw.integers(0, CLASSES, rows)
    logits = draw.normal(size=(rows, CLASSES)) + skill * np.eye(CLASSES)[truth]
    spread = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = float(-np.log(spread[np.arange(rows), truth]).mean())
    return evaluated(loss, mean, logits, truth)


def lie(rows: int, mean: float, *, right: bool) -> Evaluation:
    """Sums that add up, and are finite."""
    cells = [0] * CLASSES**2
    cells[0 if right else 1] = rows
    correct = rows if right else 0
    return Evaluation(
        examples=rows,
        loss_sum=mean * rows,
        judged=rows,
        correct=correct,
        confusion=tuple(cells),
        confidences=(*(9 * (0,)), rows),
        confident_correct=(*(9 * (0,)), correct),
    )


honest = st.builds(told, st.integers(0, 10**6), st.integers(1, 60), st.just(CLASSIFIED))
lies = st.builds(
    lie,
    st.integers(1, 2**40),
    st.floats(-FARTHEST, FARTHEST),
    right=st.booleans(),
)


@given(st.lists(honest, min_size=2, max_size=14), st.data())
@settings(max_examples=80, deadline=None)
def test_a_fifth_that_lies_moves_it_no_farther_than_the_honest_are_apart(
    several: list[Evaluation], data: st.DataObject
) -> None:
    most = max(n for n in range(1, 9) if n <= max(1, int(SHARE * (len(several) + n))))
    liars = data.draw(st.lists(lies, max_size=most))

    found = heard([*liars, *several], MOST)

    losses = [one.loss_sum / one.examples for one in several]
    shares = [one.correct / one.judged for one in several]
    assert found.loss is not None
    assert found.accuracy is not None
    assert min(losses) - 1e-9 <= found.loss <= max(losses) + 1e-9
    rounding = 1 / found.judged
    assert min(shares) - rounding <= found.accuracy <= max(shares) + rounding


@given(st.lists(st.one_of(honest, lies), max_size=8), st.integers(1, 100))
@settings(max_examples=80, deadline=None)
def test_what_comes_of_it_adds_up_as_what_one_device_tells(
    several: list[Evaluation], most: int
) -> None:
    found = heard(several, most)

    if several:
        assert read_evaluation(found.metrics()) == found
        assert found.examples <= most * len(several)
    else:
        assert found == Evaluation()


@given(st.lists(honest, min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_it_does_not_matter_who_is_heard_first(several: list[Evaluation], random: object) -> None:
    found = heard(several, MOST)
    assert heard(several[::-1], MOST).confusion == found.confusion
    assert heard(several[::-1], MOST).loss == pytest.approx(found.loss)


@given(honest, st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_where_all_tell_the_same_it_is_the_sum(one: Evaluation, devices: int, times: int) -> None:
    found = heard([one] * devices, MOST)
    plain = reduce(Evaluation.merge, [one] * devices)

    assert found == replace(plain, loss_sum=found.loss_sum)
    assert found.loss_sum == pytest.approx(plain.loss_sum)


def test_honest_devices_come_to_about_the_sum_of_theirs() -> None:
    several = [told(seed, 200) for seed in range(10)]
    plain = reduce(Evaluation.merge, several)

    found = heard(several, MOST)

    assert (found.examples, found.judged) == (plain.examples, plain.judged)
    assert found.accuracy == pytest.approx(plain.accuracy, abs=0.005)
    assert found.loss == pytest.approx(plain.loss, rel=0.02)


@pytest.mark.parametrize("name", ["loss_sum", "absolute_error_sum", "squared_error_sum"])
def test_one_finite_lie_of_an_error_decides_no_gate(name: str) -> None:
    several = [told(seed, 100, NUMBERS) for seed in range(5)]
    told_wrong: dict[str, Any] = {name: 1e30}
    lied = [replace(several[0], **told_wrong), *several[1:]]

    found = heard(lied, MOST)

    means = [getattr(one, name) / one.examples for one in several]
    assert getattr(found, name) / found.examples <= max(means) + 1e-9


@pytest.mark.parametrize("right", [True, False])
def test_one_that_has_all_of_one_kind_wrong_or_right_moves_no_score_of_classes(
    *, right: bool
) -> None:
    several = [told(seed, 100, skill=4.0) for seed in range(9)]
    alone = metrics_of(heard(several, MOST))

    together = metrics_of(heard([*several, lie(2**40, 0.5, right=right)], MOST))

    for name in (ACCURACY, MACRO_F1):
        assert together[name] == pytest.approx(alone[name], abs=0.015)


def test_no_device_counts_for_more_than_twice_the_examples_of_the_middle_one() -> None:
    several = [told(seed, 40) for seed in range(4)]

    found = heard([*several, lie(2**40, 0.1, right=True)], MOST)

    assert found.examples == found.judged == 4 * 40 + 80


def test_of_two_nobody_knows_whom_to_believe() -> None:
    one, other = told(1, 30), told(2, 30)

    plain = one.merge(other)

    found = heard([one, other], MOST)

    assert found == replace(plain, loss_sum=found.loss_sum)
    assert found.loss == pytest.approx(plain.loss)
