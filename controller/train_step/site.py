"""What a gradient rule sees: one node, the gradient of its outputs, and where to append its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from agent.inference.datatypes import Array
from controller.onnx_graph import described
from controller.train_step.emitter import Emitter
from controller.train_step.errors import NoGradientRule
from controller.train_step.graph import Attributes
from controller.train_step.shapes import Shape, varies


@dataclass(frozen=True, slots=True)
class Site:
    """One node under differentiation.

    Attributes:
        emitter: where the adjoint is appended.
        node: of the forward graph; a rule may ask it for further outputs.
        gradients: of the loss by each output of the node; None where it does not matter.
        needed: of which inputs the gradient is wanted.
        shapes: of every tensor of the forward graph.
        types: likewise, as in ``TensorProto``.
        constants: tensors whose value is known.
    """

    emitter: Emitter
    node: NodeProto
    gradients: Sequence[str | None]
    needed: Sequence[bool]
    shapes: Mapping[str, Shape]
    types: Mapping[str, int]
    constants: Mapping[str, Array]

    @property
    def gradient(self) -> str:
        """Of the loss by the node's first output."""
        found = self.gradients[0]
        if found is None:
            raise self.refusal("the gradient of its first output is not there")
        return found

    @property
    def attributes(self) -> Attributes:
        """Of the node."""
        return Attributes(self.node)

    @property
    def output(self) -> str:
        """The node's first output."""
        return self.node.output[0]

    def input(self, index: int) -> str:
        """The node's input; empty where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def refusal(self, why: str) -> NoGradientRule:
        """The error for a form of the operator that has no rule."""
        return NoGradientRule(f"{described(self.node)}: {why}")

    def rank(self, name: str) -> int:
        """How many axes it has."""
        return len(self.shapes[name])

    def static(self, name: str) -> list[int]:
        """Its shape, -1 for each axis that varies."""
        return [-1 if varies(axis) else axis[0] for axis in self.shapes[name]]

    def length(self, name: str, axis: int) -> int:
        """Of an axis.

        Raises:
            NoGradientRule: it varies.
        """
        found = self.static(name)[axis]
        if found < 0:
            raise self.refusal(f"axis {axis} of {name!r} must have a fixed length")
        return found

    def constant(self, name: str, what: str) -> list[int]:
        """The integers of an input that is known.

        Raises:
            NoGradientRule: it is computed from data; calls it ``what``.
        """
        if name not in self.constants:
            raise self.refusal(f"its {what} must be constant")
        return [int(one) for one in np.ravel(self.constants[name])]

    def shape_of(self, name: str) -> str:
        """Its shape as a value that Reshape takes."""
        static = self.static(name)
        if static.count(-1) <= 1 and 0 not in static:
            return self.emitter.integers(static)
        return self.emitter.op("Shape", name)

    def zeros_like(self, name: str) -> str:
        """Zeros of its shape."""
        static = self.static(name)
        shape = self.emitter.op("Shape", name) if -1 in static else self.emitter.integers(static)
        return self.emitter.zeros(shape)

    def reshaped(self, gradient: str, like: str) -> str:
        """The gradient in the shape of another tensor."""
        return self.emitter.op("Reshape", gradient, self.shape_of(like))

    def unbroadcast(self, gradient: str, shaped: str, like: str) -> str:
        """The sum of a gradient over the axes along which ``like`` was stretched to ``shaped``."""
        wide, narrow = self.shapes[shaped], self.shapes[like]
        lead = len(wide) - len(narrow)
        inner = [
            index + lead
            for index, axis in enumerate(narrow)
            if axis == (1, 1) and wide[index + lead] != (1, 1)
        ]
        if not lead and not inner:
            return gradient
        e = self.emitter
        axes = e.integers([*range(lead), *inner])
        summed = e.op("ReduceSum", gradient, axes, keepdims=1 if inner else 0)
        return e.op("Squeeze", summed, e.integers(range(lead))) if inner and lead else summed


Gradients = Sequence[str | None]
"""Of the loss by each input; a shorter one has None for the rest."""

Rule = Callable[[Site], Gradients]
"""Appends the adjoint of a node to ``site.emitter``.

It is told of what inputs the gradient is needed, and may give more: the sweep drops the rest.
"""
