"""Training on one device: epochs, batches and steps, over a graph that does the arithmetic.

The same parameters, rows, plan and generator give the same bits, on the same runtime and processor.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.federated.errors import NotFinite
from agent.federated.evaluation import Evaluation, evaluated, nothing
from agent.federated.layout import TRUTH
from agent.federated.parameters import Parameters
from agent.federated.trainer import Plan
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

LAST_STEPS: Final = 10
EVALUATION_BATCH: Final = 64

Array = NDArray[Any]


class Step(Protocol):
    """A train-step graph, as ``protos.train_step`` says."""

    @property
    def spec(self) -> TrainStepSpec: ...  # noqa: D102 - its description

    @property
    def classes(self) -> int: ...  # noqa: D102 - of the output; 0 if that is not known

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> Sequence[Array]:
        """The named outputs."""
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """After the last step. Losses as in ``agent.federated.trainer.TrainResult``."""

    parameters: Parameters
    steps: int
    first_loss: float
    last_loss: float


def known_classes(spec: TrainStepSpec, classes: int, rows: Array) -> Array:
    """``rows`` without those whose class the step does not have."""
    if spec.loss not in {Loss.SOFTMAX_CROSS_ENTROPY, Loss.NLL} or not classes or not len(rows):
        return rows
    return rows[(rows[TRUTH] >= 0) & (rows[TRUTH] < classes)]


def train(
    step: Step, parameters: Parameters, rows: Array, plan: Plan, rng: np.random.Generator
) -> Trained:
    """The parameters after ``plan``; ``rows`` are at least one, as ``Layout`` packs them.

    Raises:
        NotFinite: the loss of a step, or a parameter after the last.
    """
    spec = step.spec
    outputs = (LOSS, *_next_names(spec))
    state = _first_state(spec, parameters)
    fixed = _constants(spec, parameters, plan.learning_rate, plan.momentum, plan.proximal)
    losses: list[float] = []
    for batch in _batches(spec, rows, plan, rng):
        loss, *values = step.run({**state, **fixed, **batch}, outputs)
        losses.append(float(loss))
        if not np.isfinite(losses[-1]):
            raise NotFinite(f"the loss of step {len(losses)} is not finite")
        state = dict(zip(state, values, strict=True))
    moved = {one.name: state[one.name] for one in spec.parameters}
    for name, array in moved.items():
        if not np.isfinite(array).all():
            raise NotFinite(f"parameter {name!r} is not finite after {len(losses)} steps")
    return Trained(moved, len(losses), losses[0], float(np.mean(losses[-LAST_STEPS:])))


def evaluate(step: Step, parameters: Parameters, rows: Array) -> Evaluation:
    """How good ``parameters`` are on ``rows``: what the step says before it steps, by nothing.

    Raises:
        NotFinite: the loss is.
    """
    spec = step.spec
    fixed = _constants(spec, parameters, 0.0, 0.0, 0.0)
    state = _first_state(spec, parameters)
    found = nothing(spec.loss, step.classes)
    for start in range(0, len(rows), EVALUATION_BATCH):
        index = np.arange(start, min(start + EVALUATION_BATCH, len(rows)))
        feeds = {**state, **fixed, **_batch(spec, rows, index, len(index))}
        loss, output = step.run(feeds, (LOSS, OUTPUT))
        if not np.isfinite(loss):
            raise NotFinite("the loss on the hold-out is not finite")
        truth = None if spec.loss is Loss.RECONSTRUCTION else rows[TRUTH][index]
        found = found.merge(evaluated(spec.loss, float(loss), output, truth))
    return found


def _batches(
    spec: TrainStepSpec, rows: Array, plan: Plan, rng: np.random.Generator
) -> Iterator[Mapping[str, Array]]:
    size = min(plan.batch, len(rows))
    left = plan.most_steps or plan.epochs * len(rows)
    for _ in range(plan.epochs):
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), size):
            if not left:
                return
            left -= 1
            yield _batch(spec, rows, order[start : start + size], size)


def _batch(spec: TrainStepSpec, rows: Array, index: Array, size: int) -> Mapping[str, Array]:
    """The rows at ``index``, filled up to ``size`` with rows that weigh nothing, if that is possible.

    One shape all the time is one plan of memory in the runtime.
    """
    weights = np.ones(len(index), np.float32)
    if spec.sample_weight and len(index) < size:
        weights = np.zeros(size, np.float32)
        weights[: len(index)] = 1.0
        index = np.resize(index, size)
    feeds = {name: _column(rows, name, index) for name in spec.inputs}
    if spec.loss is not Loss.RECONSTRUCTION:
        feeds[TARGET] = _column(rows, TRUTH, index)
    if spec.sample_weight:
        feeds[SAMPLE_WEIGHT] = weights
    return feeds


def _column(rows: Array, name: str, index: Array) -> Array:
    column = np.ascontiguousarray(rows[name][index])
    return column.astype(column.dtype.newbyteorder("="), copy=False)


def _first_state(spec: TrainStepSpec, parameters: Parameters) -> dict[str, Array]:
    """Parameters, and their momenta from zero: in the order of ``_next_names``."""
    state: dict[str, Array] = {one.name: parameters[one.name] for one in spec.parameters}
    if spec.optimizer is Optimizer.MOMENTUM:
        state |= {momentum_of(name): np.zeros_like(state[name]) for name in list(state)}
    return state


def _next_names(spec: TrainStepSpec) -> tuple[str, ...]:
    names = [one.name for one in spec.parameters]
    momenta = names if spec.optimizer is Optimizer.MOMENTUM else []
    return (*map(next_of, names), *map(next_momentum_of, momenta))


def _constants(
    spec: TrainStepSpec, parameters: Parameters, rate: float, momentum: float, proximal: float
) -> Mapping[str, Array]:
    """Scalars are arrays of no axes: the runtime takes no numpy scalar."""
    fixed: dict[str, Array] = {LEARNING_RATE: np.asarray(rate, np.float32)}
    if spec.optimizer is Optimizer.MOMENTUM:
        fixed[MOMENTUM] = np.asarray(momentum, np.float32)
    if spec.proximal:
        fixed[PROXIMAL] = np.asarray(proximal, np.float32)
        fixed |= {anchor_of(one.name): parameters[one.name] for one in spec.parameters}
    return fixed
