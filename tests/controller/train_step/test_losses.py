from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from controller.train_step.build import TrainStep
from controller.train_step.options import TrainOptions
from protos.train_step import LOSS, OUTPUT, SAMPLE_WEIGHT, TARGET, Loss, Optimizer
from tests.controller.train_step.networks import (
    built,
    gradients,
    mlp,
    network,
    normal,
    own_parameters,
    stepped,
)

ROWS = 6
X = normal(ROWS, 6, seed=1)
CLASSES = np.array([0, 1, 2, 2, 1, 0])
NUMBERS = normal(ROWS, 3, seed=2, scale=2.0)
YES_OR_NO = (NUMBERS > 0).astype(np.float32)
Numbers = NDArray[np.float64]


def log_softmax(z: Numbers) -> Numbers:
    shifted = z - z.max(axis=1, keepdims=True)
    result: Numbers = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def huber(z: Numbers) -> Numbers:
    error = np.abs(z - NUMBERS)
    by_element = np.where(error < 0.5, error**2 / 2, 0.5 * (error - 0.25))
    return np.asarray(by_element.mean(axis=1))


def bce(z: Numbers) -> Numbers:
    p = 1 / (1 + np.exp(-z))
    result: Numbers = -(YES_OR_NO * np.log(p) + (1 - YES_OR_NO) * np.log(1 - p)).mean(axis=1)
    return result


# Of each row, as textbooks write it.
ROW_LOSSES: dict[Loss, tuple[NDArray[Any], Callable[[Numbers], Numbers]]] = {
    Loss.SOFTMAX_CROSS_ENTROPY: (CLASSES, lambda z: -log_softmax(z)[np.arange(ROWS), CLASSES]),
    Loss.NLL: (CLASSES, lambda z: -z[np.arange(ROWS), CLASSES]),
    Loss.BCE_WITH_LOGITS: (YES_OR_NO, bce),
    Loss.MSE: (NUMBERS, lambda z: ((z - NUMBERS) ** 2).mean(axis=1)),
    Loss.MAE: (NUMBERS, lambda z: np.abs(z - NUMBERS).mean(axis=1)),
    Loss.HUBER: (NUMBERS, huber),
}


@pytest.fixture(scope="module")
def steps() -> dict[Loss, tuple[bytes, TrainStep]]:
    return {
        loss: built(mlp(), TrainOptions(loss=loss, optimizer=Optimizer.MOMENTUM, huber_delta=0.5))
        for loss in ROW_LOSSES
    }


@pytest.mark.parametrize("loss", ROW_LOSSES)
def test_a_loss_is_the_weighted_mean_over_rows(
    loss: Loss, steps: dict[Loss, tuple[bytes, TrainStep]]
) -> None:
    model, step = steps[loss]
    target, rows = ROW_LOSSES[loss]
    weights = np.array([1, 2, 0.5, 0, 1, 3], np.float32)

    found = stepped(
        step, own_parameters(model, step), {"x": X, TARGET: target, SAMPLE_WEIGHT: weights}
    )

    expected = np.average(rows(found[OUTPUT].astype(np.float64)), weights=weights)
    assert found[LOSS] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ROW_LOSSES)
def test_without_weights_it_is_the_plain_mean(loss: Loss) -> None:
    model, step = built(mlp(), TrainOptions(loss=loss, sample_weight=False, huber_delta=0.5))
    target, rows = ROW_LOSSES[loss]

    found = stepped(step, own_parameters(model, step), {"x": X, TARGET: target})

    assert found[LOSS] == pytest.approx(rows(found[OUTPUT].astype(np.float64)).mean(), rel=1e-5)


@pytest.mark.parametrize("loss", ROW_LOSSES)
def test_padding_of_weight_zero_changes_nothing(
    loss: Loss, steps: dict[Loss, tuple[bytes, TrainStep]]
) -> None:
    model, step = steps[loss]
    target, _ = ROW_LOSSES[loss]
    parameters = own_parameters(model, step)
    masked = np.array([1, 1, 1, 1, 0, 0], np.float32)

    short = stepped(step, parameters, {"x": X[:4], TARGET: target[:4]})
    padded = stepped(step, parameters, {"x": X, TARGET: target, SAMPLE_WEIGHT: masked})

    assert padded[LOSS] == pytest.approx(short[LOSS], rel=1e-6)
    for name, gradient in gradients(step, short).items():
        np.testing.assert_allclose(gradients(step, padded)[name], gradient, rtol=1e-4, atol=1e-7)


def test_a_batch_of_nothing_but_padding_teaches_nothing(
    steps: dict[Loss, tuple[bytes, TrainStep]],
) -> None:
    model, step = steps[Loss.SOFTMAX_CROSS_ENTROPY]
    nothing = np.zeros(ROWS, np.float32)

    found = stepped(
        step, own_parameters(model, step), {"x": X, TARGET: CLASSES, SAMPLE_WEIGHT: nothing}
    )

    assert found[LOSS] == 0.0
    assert all((gradient == 0).all() for gradient in gradients(step, found).values())


row_weights = st.lists(st.floats(0.125, 4.0), min_size=ROWS, max_size=ROWS)


@settings(max_examples=10, deadline=None)
@given(one=row_weights, other=row_weights, share=st.floats(0.0, 1.0), factor=st.floats(0.1, 9.0))
@pytest.mark.parametrize("loss", [Loss.SOFTMAX_CROSS_ENTROPY, Loss.MSE])
def test_the_gradient_is_linear_in_the_shares_of_the_rows(
    loss: Loss,
    steps: dict[Loss, tuple[bytes, TrainStep]],
    one: list[float],
    other: list[float],
    share: float,
    factor: float,
) -> None:
    model, step = steps[loss]
    parameters, target = own_parameters(model, step), ROW_LOSSES[loss][0]

    def by(weights: NDArray[Any]) -> NDArray[Any]:
        data = {"x": X, TARGET: target, SAMPLE_WEIGHT: weights.astype(np.float32)}
        found = gradients(step, stepped(step, parameters, data))
        return np.concatenate([gradient.ravel() for gradient in found.values()])

    first, second = np.array(one) / sum(one), np.array(other) / sum(other)
    mixed = by(factor * (share * first + (1 - share) * second))

    expected = share * by(first) + (1 - share) * by(second)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)


def test_reconstruction_needs_no_target() -> None:
    text = """
        autoencoder (float[N,6] x) => (float[N,6] y) {
            code = Gemm(x, down)
            y = Gemm(code, up)
        }
    """
    model, step = built(
        network(text, {"down": normal(6, 2), "up": normal(2, 6)}),
        TrainOptions(loss=Loss.RECONSTRUCTION),
    )

    found = stepped(step, own_parameters(model, step), {"x": X})

    assert step.spec.target_shape == ()
    assert found[LOSS] == pytest.approx(np.square(found[OUTPUT] - X).mean(), rel=1e-5)


def test_large_logits_overflow_nothing() -> None:
    text = "g (float[N,1] x) => (float[N,1] y) { y = MatMul(x, w) }"
    model, step = built(
        network(text, {"w": np.ones((1, 1), np.float32)}),
        TrainOptions(loss=Loss.BCE_WITH_LOGITS, output="y"),
    )
    x = np.array([[900.0], [-900.0]], np.float32)

    found = stepped(step, own_parameters(model, step), {"x": x, TARGET: np.zeros_like(x)})

    assert found[LOSS] == pytest.approx(450.0)
