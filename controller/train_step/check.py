"""Tries what was built, before anybody signs it: answers, gradients, one step, and the descent.

It finds gross faults: a missing or wrong rule is an error at registration, never a bad round. That
each rule is right to the last digits is shown by tests against another implementation.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnx import ModelProto

from agent.inference.datatypes import Array
from agent.runtimes.runtime import Runtime
from controller.train_step.build import TrainStep
from controller.train_step.errors import SelfCheckFailed
from controller.train_step.examples import made_up_inputs
from controller.train_step.execution import Feed, dimensions, run_once
from controller.train_step.graph import model_inputs
from controller.train_step.parameters import Float32s, Parameters, parameters_of
from controller.train_step.slopes import Claim, disagreement, slope_along
from controller.train_step.trial import Settings, StepTrial, step_trial
from protos.train_step import Optimizer, TrainStepSpec, next_of

ROWS: Final = 8
_ATTEMPTS: Final = 3
TOLERANCE: Final = 0.03
"""How far a slope may be from its gradient, as a share of the gradient's norm."""

ANSWERS_APART: Final = 1e-4
"""How far the canonical model's answers may be from the original's, of the largest answer."""

_DIRECTIONS: Final = 2  # at random, for each parameter, beside the gradient's own
_MOST_PARAMETERS: Final = 24
_SHAKE: Final = 0.05
_LEAST_SPREAD: Final = 0.2  # of parameters that are all alike, as zeros are
_HALVINGS: Final = 30
_LEAST_SHARE: Final = 1e-3  # of the whole gradient: of one that is smaller a share says nothing
_CLIP_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check saw.

    Attributes:
        worst_slope: the largest disagreement of a slope with its gradient; its bound is
            ``TOLERANCE``.
        loss_before: on made-up rows.
        loss_after: after one step on them.
    """

    worst_slope: float
    loss_before: float
    loss_after: float


def check_canonical(
    original: bytes,
    made: bytes,
    rng: np.random.Generator,
    runtime: Runtime,
    inputs: Feed | None = None,
) -> float:
    """How far the canonical model's answers are from the original's, of the largest answer.

    It compares them on the rows of ``inputs``; None makes some up.

    Raises:
        SelfCheckFailed: more than ``ANSWERS_APART``, or another label; names the output.
        NotConvertible: one of them can't be run.
    """
    first, second = ModelProto.FromString(original), ModelProto.FromString(made)
    feed = inputs or made_up_inputs(second, ROWS, rng)
    names = [one.name for one in first.graph.output]
    expected = _answers(first, feed, names, runtime)
    found = _answers(second, feed, names, runtime)
    worst = 0.0
    for name, answer in expected.items():
        apart = _apart(answer, found[name])
        worst = max(worst, apart)
        if not apart <= ANSWERS_APART:
            raise SelfCheckFailed(f"output {name!r} of the canonical model is off by {apart:.1e}")
    return worst


def _answers(
    model: ModelProto, feed: Feed, names: Sequence[str], runtime: Runtime
) -> dict[str, Array]:
    """All rows at once, or one at a time where the batch is fixed at 1."""
    fixed = any(dimensions(one)[:1] == [1] for one in model_inputs(model.graph))
    rows = len(next(iter(feed.values())))
    step = 1 if fixed else rows
    feeds = [
        {name: array[row : row + step] for name, array in feed.items()}
        for row in range(0, rows, step)
    ]
    found = run_once(runtime, model, feeds, names)
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _apart(one: Array, other: Array) -> float:
    if one.shape != other.shape:
        return float("inf")
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else float("inf")
    largest = max(1.0, float(np.max(np.abs(one), initial=0.0)))
    return float(np.max(np.abs(one - other), initial=0.0)) / largest


def check_train_step(
    model: bytes,
    step: TrainStep,
    rng: np.random.Generator,
    runtime: Runtime,
    inputs: Feed | None = None,
) -> Checked:
    """What was seen when the step was tried on a few rows.

    ``model`` is the canonical one that the step was built of, ``inputs`` are rows to try it on; None
    makes some up. What they should give is always made up.

    Raises:
        SelfCheckFailed: a gradient is not the slope of the loss, a step is not what its options
            say, or the loss does not fall; names the parameter.
        NotConvertible: the step can't be run.
    """
    for _ in range(_ATTEMPTS - 1):
        # A loss that bends or leaps just at these rows proves nothing; a wrong rule fails always.
        with suppress(SelfCheckFailed):
            return _tried(model, step, rng, runtime, inputs)
    return _tried(model, step, rng, runtime, inputs)


def _tried(
    model: bytes, step: TrainStep, rng: np.random.Generator, runtime: Runtime, inputs: Feed | None
) -> Checked:
    parameters = parameters_of(model, [one.name for one in step.spec.parameters])
    rows = _some(inputs, rng) if inputs else made_up_inputs(ModelProto.FromString(model), ROWS, rng)
    with ExitStack() as stack:
        trial = step_trial(stack, step, parameters, rows, rng, runtime)
        near = _shaken(parameters, rng)
        gradients = trial.gradients(near)
        worst = _check_slopes(trial, step.spec, near, gradients, rng)
        _check_descent(trial, step.spec, near, gradients, rng)
        before, after = _check_fall(trial, parameters)
    return Checked(worst, before, after)


def _shaken(parameters: Parameters, rng: np.random.Generator) -> Parameters:
    """The parameters, each a little off.

    A bias of just zero behind what is zero holds an activation at its bend, where the loss has two
    slopes: as in a model that was not trained yet.
    """
    return {
        name: one + np.float32(_SHAKE * (_LEAST_SPREAD + float(np.std(one)))) * _like(rng, one)
        for name, one in parameters.items()
    }


def _some(inputs: Feed, rng: np.random.Generator) -> Feed:
    """A few of the rows, at random."""
    chosen = rng.permutation(len(next(iter(inputs.values()))))[:ROWS]
    return {name: array[chosen] for name, array in inputs.items()}


def _check_slopes(
    trial: StepTrial,
    spec: TrainStepSpec,
    parameters: Parameters,
    gradients: Parameters,
    rng: np.random.Generator,
) -> float:
    """The worst disagreement between a gradient and the slope of the loss.

    Along the gradients themselves, which finds wrong ones; along directions at random, which finds
    parts that are missing.
    """
    norm = _norm(gradients.values())
    if not np.isfinite(norm) or norm == 0.0:
        raise SelfCheckFailed(f"the gradient on made-up rows has the norm {norm}")
    shrunk = _shrunk(trial, spec, parameters, gradients, norm)
    here, worst = trial.loss(parameters), 0.0
    for name in _looked_into(list(parameters), rng):
        for claim in _claims(name, gradients[name] / np.float32(shrunk), norm / shrunk, rng):
            apart = disagreement(trial.loss, parameters, here, claim)
            worst = max(worst, apart)
            if not apart <= TOLERANCE:
                raise SelfCheckFailed(
                    f"the gradient of {name!r} is not the slope of the loss: off by {apart:.0%}"
                )
    return worst


def _looked_into(names: list[str], rng: np.random.Generator) -> list[str]:
    """All of them, or some at random where there are many: a wrong rule is wrong everywhere."""
    chosen = rng.permutation(len(names))[:_MOST_PARAMETERS]
    return [names[index] for index in sorted(chosen.tolist())]


def _claims(
    name: str, gradient: Float32s, norm: float, rng: np.random.Generator
) -> Iterator[Claim]:
    """What a parameter's gradient says of the loss, which has one of that norm over all."""
    own = _norm([gradient])
    directions = [_like(rng, gradient) for _ in range(_DIRECTIONS)]
    for direction in [gradient, *directions] if own else directions:
        unit = (direction / np.float32(_norm([direction]))).astype(np.float32)
        slope = float(np.vdot(gradient, unit))
        yield Claim(name, unit, slope, max(own, _LEAST_SHARE * norm))


def _shrunk(
    trial: StepTrial,
    spec: TrainStepSpec,
    parameters: Parameters,
    gradients: Parameters,
    norm: float,
) -> float:
    """By what factor clipping made the gradients shorter: 1 if they are within the bound.

    Their true norm is the slope of the loss along them.
    """
    if spec.clip_norm is None or norm < spec.clip_norm * (1 - _CLIP_TOLERANCE):
        return 1.0
    if norm > spec.clip_norm * (1 + _CLIP_TOLERANCE):
        raise SelfCheckFailed(f"a gradient of norm {norm:.3g} was not clipped to {spec.clip_norm}")
    along = {name: one / np.float32(norm) for name, one in gradients.items()}
    slope = slope_along(trial.loss, parameters, along)
    if not slope > 0:
        raise SelfCheckFailed(f"the gradient is not the slope of the loss, which is {slope:.3g}")
    return min(1.0, spec.clip_norm / slope)


def _check_descent(
    trial: StepTrial,
    spec: TrainStepSpec,
    parameters: Parameters,
    gradients: Parameters,
    rng: np.random.Generator,
) -> None:
    """That a step is made of the gradient as the description says."""
    settings = Settings(rate=0.125, momentum=0.75, proximal=0.5)
    momenta = {name: _like(rng, one) for name, one in parameters.items()}
    anchors = {name: one + _like(rng, one) for name, one in parameters.items()}
    given = trial.step(parameters, settings, momenta, anchors)
    for name, one in parameters.items():
        direction = gradients[name] + np.float32(spec.weight_decay) * one
        if spec.proximal:
            direction = direction + np.float32(settings.proximal) * (one - anchors[name])
        if spec.optimizer is Optimizer.MOMENTUM:
            direction = direction + np.float32(settings.momentum) * momenta[name]
        expected = one - np.float32(settings.rate) * direction
        if not np.allclose(given[next_of(name)], expected, rtol=1e-3, atol=1e-4):
            raise SelfCheckFailed(f"{name!r} does not move by its gradient")


def _check_fall(trial: StepTrial, parameters: Parameters) -> tuple[float, float]:
    """The loss before a step and after it, at the largest rate of some at which it falls."""
    before, rate = trial.loss(parameters), 1.0
    for _ in range(_HALVINGS):
        given = trial.step(parameters, Settings(rate))
        after = trial.loss({name: given[next_of(name)] for name in parameters})
        if after < before:
            return before, after
        rate /= 2
    raise SelfCheckFailed(f"no step makes the loss of {before:.3g} smaller")


def _like(rng: np.random.Generator, one: Float32s) -> Float32s:
    return rng.standard_normal(one.shape).astype(np.float32)


def _norm(arrays: Iterable[Array]) -> float:
    """Of all of them together."""
    squares = (float(np.vdot(one, one)) for one in arrays)
    return math.sqrt(sum(squares))
