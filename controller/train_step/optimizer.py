"""From gradients to the next parameters, inside the graph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from onnx import NodeProto

from controller.train_step.emitter import Emitter
from controller.train_step.graph import is_standard, producers
from protos.train_step import (
    LEARNING_RATE,
    MOMENTUM,
    PROXIMAL,
    Optimizer,
    anchor_of,
    momentum_of,
    next_momentum_of,
    next_of,
)

TINY: Final = 1e-12  # a gradient of zeros is not divided by its norm


@dataclass(frozen=True, slots=True)
class Descent:
    """How a gradient becomes a step.

    Attributes:
        proximal: whether parameters are held to anchors (FedProx, arXiv:1812.06127).
        weight_decay: times the parameter, added to its gradient.
        clip_norm: bound of the norm over all parameters, before decay and anchors; None is none.
    """

    optimizer: Optimizer
    proximal: bool
    weight_decay: float
    clip_norm: float | None

    @property
    def plain(self) -> bool:
        """Whether a step is the gradient times the rate, and no more."""
        more = self.proximal or self.weight_decay or self.clip_norm is not None
        return self.optimizer is Optimizer.SGD and not more


@dataclass(slots=True)
class StateNames:
    """Names that the graph takes and gives beside parameters and data."""

    scalars: list[str] = field(default_factory=list)
    inputs: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)


def descending(e: Emitter, descent: Descent, gradient: str) -> str:
    """The gradient by the output with which the sweep begins.

    If a step is no more than gradient and rate, the rate is in it from the start: a product for one
    tensor, instead of one for each parameter.
    """
    return e.op("Mul", gradient, e.op("Neg", LEARNING_RATE)) if descent.plain else gradient


def append_descent(
    e: Emitter, descent: Descent, parameters: Sequence[str], gradients: Mapping[str, str]
) -> StateNames:
    """One step down; what of inputs and outputs it needs, each with its parameter.

    ``gradients`` are of a sweep that began with ``descending``.
    """
    names = StateNames(scalars=[LEARNING_RATE])
    if descent.plain:
        _append_steps(e, parameters, gradients)
        names.outputs = [(next_of(name), name) for name in parameters]
        return names
    if descent.optimizer is Optimizer.MOMENTUM:
        names.scalars.append(MOMENTUM)
    if descent.proximal:
        names.scalars.append(PROXIMAL)
    if descent.clip_norm is not None:
        gradients = _clipped(e, descent.clip_norm, parameters, gradients)
    for name in parameters:
        direction = _direction(e, descent, name, gradients[name], names)
        e.op("Sub", name, e.op("Mul", LEARNING_RATE, direction), out=next_of(name))
        names.outputs.append((next_of(name), name))
    return names


def _append_steps(e: Emitter, parameters: Sequence[str], steps: Mapping[str, str]) -> None:
    """Adds its step to each parameter; Gemm does that by itself."""
    made_by = producers(e.nodes)
    taken = Counter([*steps.values(), *(name for node in e.nodes for name in node.input)])
    for name in parameters:
        step = steps[name]
        node = made_by.get(step)
        if node is not None and taken[step] == 1 and _is_product(node):
            node.input.append(name)
            node.output[0] = node.name = next_of(name)
        else:
            e.op("Add", name, step, out=next_of(name))


def _is_product(node: NodeProto) -> bool:
    """Whether it is a Gemm that adds nothing yet."""
    return is_standard(node, "Gemm") and len(node.input) == 2


def _clipped(
    e: Emitter, bound: float, parameters: Sequence[str], gradients: Mapping[str, str]
) -> dict[str, str]:
    """Gradients scaled down so that their common norm is ``bound`` at most."""
    squares = [e.op("ReduceSumSquare", gradients[name], keepdims=0) for name in parameters]
    norm = e.op("Sqrt", e.op("Sum", *squares) if len(squares) > 1 else squares[0])
    share = e.op("Div", e.number(bound), e.op("Add", norm, e.number(TINY)))
    factor = e.op("Min", e.number(1.0), share)
    return {name: e.op("Mul", gradients[name], factor) for name in parameters}


def _direction(e: Emitter, descent: Descent, name: str, gradient: str, names: StateNames) -> str:
    if descent.weight_decay:
        decay = e.op("Mul", name, e.number(descent.weight_decay))
        gradient = e.op("Add", gradient, decay)
    if descent.proximal:
        names.inputs.append((anchor_of(name), name))
        pull = e.op("Mul", PROXIMAL, e.op("Sub", name, anchor_of(name)))
        gradient = e.op("Add", gradient, pull)
    if descent.optimizer is Optimizer.MOMENTUM:
        names.inputs.append((momentum_of(name), name))
        names.outputs.append((next_momentum_of(name), name))
        kept = e.op("Mul", MOMENTUM, momentum_of(name))
        gradient = e.op("Add", kept, gradient, out=next_momentum_of(name))
    return gradient
