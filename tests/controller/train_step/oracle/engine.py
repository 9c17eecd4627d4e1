"""The product's gradient, read off a train step as a device runs it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from agent.runtimes.onnx import OnnxRuntime
from controller.train_step.build import (
    TrainOptions,
    TrainStep,
    build_train_step,
    canonical,
    parameters_of,
)
from controller.train_step.forms.table import FORMS, Forms
from controller.train_step.selection import Trainable
from protos.train_step import (
    LEARNING_RATE,
    LOSS,
    MOMENTUM,
    SAMPLE_WEIGHT,
    TARGET,
    Loss,
    Optimizer,
    momentum_of,
    next_momentum_of,
)
from tests.controller.train_step.oracle.reference import Array, Reference

RUNTIME = OnnxRuntime()


@dataclass(frozen=True, slots=True)
class Found:
    """What the train step made of a reference's batch.

    Attributes:
        gradients: by names of the canonical model's initializers.
    """

    loss: float
    gradients: Mapping[str, Array]

    def error(self, reference: Reference) -> float:
        """The largest difference to the reference, in units of each tensor's largest element."""
        return max(
            distance(gradient, reference.tensors[name]) for name, gradient in self.gradients.items()
        )


def found(reference: Reference, trainable: Trainable = "all", forms: Forms = FORMS) -> Found:
    """The gradient of a step with momentum, which begins with zeros: the next momentum is it."""
    options = TrainOptions(
        loss=Loss(reference.loss),
        trainable=trainable,
        optimizer=Optimizer.MOMENTUM,
        sample_weight=bool(len(reference.sample_weight)),
    )
    model = canonical(reference.model, RUNTIME)
    step = build_train_step(model, options, RUNTIME, forms=forms)
    parameters = parameters_of(model, [one.name for one in step.spec.parameters])
    zeros = {momentum_of(name): np.zeros_like(one) for name, one in parameters.items()}
    rates = {LEARNING_RATE: np.array(1, np.float32), MOMENTUM: np.array(0.5, np.float32)}
    given = run(step, {**batch(reference, step), **parameters, **zeros, **rates})
    return Found(
        loss=float(given[LOSS]),
        gradients={name: given[next_momentum_of(name)] for name in parameters},
    )


def batch(reference: Reference, step: TrainStep) -> dict[str, Array]:
    """What the train step takes of the batch."""
    taken = {name: reference.inputs[name] for name in step.spec.inputs}
    if step.spec.target_shape:
        taken[TARGET] = reference.target
    if step.spec.sample_weight:
        taken[SAMPLE_WEIGHT] = reference.sample_weight
    return taken


def run(step: TrainStep, feed: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of one step, by their names."""
    session = session_of(step.graph)
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def session_of(model: bytes) -> onnxruntime.InferenceSession:
    """The model in onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def distance(given: Array, expected: Array) -> float:
    """The largest difference, in units of the largest element that is expected."""
    assert given.shape == expected.shape
    return float(np.abs(given - expected).max() / np.abs(expected).max())
