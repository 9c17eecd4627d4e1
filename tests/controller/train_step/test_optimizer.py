import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.train_step.build import TrainStep
from controller.train_step.options import TrainOptions
from protos.train_step import OUTPUT, TARGET, Optimizer, next_momentum_of
from tests.controller.train_step.networks import (
    Arrays,
    answers,
    built,
    gradients,
    mlp,
    next_parameters,
    normal,
    own_parameters,
    stepped,
)

DATA: Arrays = {"x": normal(8, 6, seed=3, scale=2.0), TARGET: np.arange(8) % 3}
PLAIN = TrainOptions(optimizer=Optimizer.MOMENTUM)


@pytest.fixture(scope="module")
def plain() -> tuple[bytes, TrainStep]:
    return built(mlp(), PLAIN)


def norm(arrays: Arrays) -> float:
    return math.sqrt(sum(float(np.square(one).sum()) for one in arrays.values()))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(0.01, 100.0))
def test_a_step_of_rate_zero_moves_nothing(
    plain: tuple[bytes, TrainStep], seed: int, size: float
) -> None:
    model, step = plain
    rng = np.random.default_rng(seed)
    parameters = {
        name: (size * rng.standard_normal(one.shape)).astype(np.float32)
        for name, one in own_parameters(model, step).items()
    }

    found = stepped(step, parameters, DATA, rate=0.0)

    for name, moved in next_parameters(step, found).items():
        np.testing.assert_array_equal(moved, parameters[name])


def test_the_output_is_that_of_the_model_before_the_step(plain: tuple[bytes, TrainStep]) -> None:
    model, step = plain

    found = stepped(step, own_parameters(model, step), DATA, rate=1.0)

    expected = answers(model, {"x": DATA["x"]})["logits"]
    np.testing.assert_allclose(found[OUTPUT], expected, rtol=1e-6)


def test_plain_descent_goes_against_the_gradient(plain: tuple[bytes, TrainStep]) -> None:
    model, with_momentum = plain
    _, step = built(mlp(), replace(PLAIN, optimizer=Optimizer.SGD))
    parameters = own_parameters(model, step)
    slopes = gradients(with_momentum, stepped(with_momentum, parameters, DATA))

    moved = next_parameters(step, stepped(step, parameters, DATA, rate=0.5))

    for name, one in parameters.items():
        np.testing.assert_allclose(moved[name], one - 0.5 * slopes[name], rtol=1e-6, atol=1e-7)


def test_momentum_keeps_a_share_of_what_it_had(plain: tuple[bytes, TrainStep]) -> None:
    model, step = plain
    parameters = own_parameters(model, step)
    slopes = gradients(step, stepped(step, parameters, DATA))
    momenta = {name: normal(*one.shape, seed=5) for name, one in parameters.items()}

    found = stepped(step, parameters, DATA, rate=0.5, momentum=0.9, momenta=momenta)

    for name, one in parameters.items():
        kept = np.float32(0.9) * momenta[name] + slopes[name]
        np.testing.assert_allclose(found[next_momentum_of(name)], kept, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            next_parameters(step, found)[name], one - 0.5 * kept, rtol=1e-5, atol=1e-6
        )


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(0.05, 20.0))
def test_clipping_bounds_the_norm_and_keeps_the_direction(
    plain: tuple[bytes, TrainStep], clipped: TrainStep, scale: float
) -> None:
    model, step = plain
    parameters = own_parameters(model, step)
    data = {**DATA, "x": np.float32(scale) * DATA["x"]}
    free = gradients(step, stepped(step, parameters, data))

    bound = gradients(clipped, stepped(clipped, parameters, data))

    expected = min(1.0, 0.5 / norm(free))
    assert norm(bound) <= 0.5 * (1 + 1e-5)
    for name, gradient in free.items():
        np.testing.assert_allclose(bound[name], expected * gradient, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def clipped() -> TrainStep:
    return built(mlp(), replace(PLAIN, clip_norm=0.5))[1]


def test_decay_pulls_to_zero_and_is_not_clipped(plain: tuple[bytes, TrainStep]) -> None:
    model, step = plain
    _, decaying = built(mlp(), replace(PLAIN, weight_decay=0.25, clip_norm=0.5))
    parameters = own_parameters(model, step)
    free = gradients(step, stepped(step, parameters, DATA))
    factor = min(1.0, 0.5 / norm(free))

    found = gradients(decaying, stepped(decaying, parameters, DATA))

    for name, gradient in free.items():
        expected = factor * gradient + 0.25 * parameters[name]
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6)


def test_the_proximal_term_pulls_to_the_anchors(plain: tuple[bytes, TrainStep]) -> None:
    model, step = plain
    _, held = built(mlp(), replace(PLAIN, proximal=True))
    parameters = own_parameters(model, step)
    free = gradients(step, stepped(step, parameters, DATA))
    anchors = {name: normal(*one.shape, seed=6) for name, one in parameters.items()}

    at_anchors = gradients(held, stepped(held, parameters, DATA, proximal=2.0))
    away = gradients(held, stepped(held, parameters, DATA, proximal=2.0, anchors=anchors))

    for name, gradient in free.items():
        np.testing.assert_allclose(at_anchors[name], gradient, rtol=1e-6)
        pulled = gradient + 2 * (parameters[name] - anchors[name])
        np.testing.assert_allclose(away[name], pulled, rtol=1e-5, atol=1e-6)
