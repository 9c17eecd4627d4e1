"""A train step in memory, with rows to try it on."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final

import numpy as np
from onnx import ModelProto

from agent.inference.datatypes import Array
from agent.runtimes.runtime import LoadedModel, Runtime
from controller.train_step.build import TrainStep
from controller.train_step.examples import made_up_target
from controller.train_step.execution import Feed, load, run, run_once
from controller.train_step.graph import drop, ordered
from controller.train_step.parameters import Float32s, Parameters
from protos.train_step import (
    LEARNING_RATE,
    LOSS,
    MOMENTUM,
    OUTPUT,
    PROXIMAL,
    SAMPLE_WEIGHT,
    TARGET,
    Loss,
    Optimizer,
    TrainStepSpec,
    anchor_of,
    momentum_of,
    next_momentum_of,
    next_of,
)

_EXACT_RATE: Final = 1024.0  # at which the rounding of the parameter does not hide the step


@dataclass(frozen=True, slots=True)
class Settings:
    """What a device sets beside parameters and data."""

    rate: float
    momentum: float = 0.0
    proximal: float = 0.0


class StepTrial:
    """Runs a step, or only its loss, on always the same rows."""

    def __init__(
        self, spec: TrainStepSpec, whole: LoadedModel, loss: LoadedModel, data: Feed
    ) -> None:
        self._spec = spec
        self._whole = whole
        self._loss = loss
        self._data = data

    def loss(self, parameters: Parameters) -> float:
        """Of the rows."""
        return float(run(self._loss, {**self._data, **parameters}, [LOSS])[LOSS])

    def step(
        self,
        parameters: Parameters,
        settings: Settings,
        momenta: Parameters | None = None,
        anchors: Parameters | None = None,
    ) -> dict[str, Array]:
        """All that the graph gives; without momenta they are zero, without anchors there's no pull."""
        feed: dict[str, Array] = {**self._data, **parameters}
        feed[LEARNING_RATE] = np.asarray(settings.rate, np.float32)
        if self._spec.optimizer is Optimizer.MOMENTUM:
            feed[MOMENTUM] = np.asarray(settings.momentum, np.float32)
            held = momenta or {name: np.zeros_like(one) for name, one in parameters.items()}
            feed |= {momentum_of(name): one for name, one in held.items()}
        if self._spec.proximal:
            feed[PROXIMAL] = np.asarray(settings.proximal, np.float32)
            held = anchors or parameters
            feed |= {anchor_of(name): one for name, one in held.items()}
        return run(self._whole, feed, self._outputs())

    def gradients(self, parameters: Parameters) -> dict[str, Float32s]:
        """Of the loss, clipped if the step clips, without decay and pull."""
        given = self.step(parameters, Settings(_EXACT_RATE))
        found = {}
        for name, one in parameters.items():
            if self._spec.optimizer is Optimizer.MOMENTUM:
                direction = given[next_momentum_of(name)]
            else:
                direction = (one - given[next_of(name)]) / np.float32(_EXACT_RATE)
            found[name] = direction - np.float32(self._spec.weight_decay) * one
        return found

    def _outputs(self) -> list[str]:
        names = [one.name for one in self._spec.parameters]
        outputs = [next_of(name) for name in names]
        if self._spec.optimizer is Optimizer.MOMENTUM:
            outputs += [next_momentum_of(name) for name in names]
        return [*outputs, LOSS, OUTPUT]


def step_trial(
    stack: ExitStack,
    step: TrainStep,
    parameters: Parameters,
    inputs: Feed,
    rng: np.random.Generator,
    runtime: Runtime,
) -> StepTrial:
    """The step, loaded until ``stack`` is left; what rows should give, and weigh, is made up.

    Raises:
        NotConvertible: it can't be loaded or run.
    """
    whole = ModelProto.FromString(step.graph)
    taken = {name: inputs[name] for name in step.spec.inputs}
    feed: dict[str, Array] = {**parameters, **taken}
    output = run_once(runtime, _only(whole, OUTPUT), [feed], [OUTPUT])[0][OUTPUT]
    data: dict[str, Array] = dict(taken)
    if step.spec.loss is not Loss.RECONSTRUCTION:
        data[TARGET] = made_up_target(step.spec.loss, output, rng)
    if step.spec.sample_weight:
        weights = rng.uniform(0.5, 1.5, len(output)).astype(np.float32)
        weights[-1] = 0.0
        data[SAMPLE_WEIGHT] = weights
    loaded = stack.enter_context(closing(load(runtime, whole)))
    loss = stack.enter_context(closing(load(runtime, _only(whole, LOSS))))
    return StepTrial(step.spec, loaded, loss, data)


def _only(model: ModelProto, output: str) -> ModelProto:
    """The part of the model that one output needs."""
    part = ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    nodes = ordered(model.graph.node, [output])
    used = {name for node in nodes for name in node.input}
    drop(graph.input, lambda one: one.name not in used)
    drop(graph.output, lambda one: one.name != output)
    drop(graph.initializer, lambda one: one.name not in used)
    graph.ClearField("node")
    graph.node.extend(nodes)
    return part
