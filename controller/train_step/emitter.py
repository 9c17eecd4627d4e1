"""Nodes and constants of a graph under construction."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT: Final = int(TensorProto.FLOAT)
Attribute = int | float | str | Sequence[int] | None


def node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute
) -> NodeProto:
    """A node that is named as its first output; an attribute of None is one left out."""
    made = helper.make_node(operator, inputs, outputs, name=outputs[0])
    made.attribute.extend(
        helper.make_attribute(key, value)
        for key, value in sorted(attributes.items())
        if value is not None
    )
    return made


class Emitter:
    """Appends operators of ONNX itself; its names never collide with the source graph's.

    Attributes:
        nodes: in the order in which they were appended.
        constants: by name.
        precision: of ``number`` and ``zeros``, as in ``TensorProto``.
    """

    def __init__(self, used: Iterable[str], prefix: str = "grad") -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.precision = FLOAT
        self._used = set(used)
        self._prefix = prefix
        self._count = 0
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def name(self, hint: str) -> str:
        """A new name."""
        while True:
            self._count += 1
            name = f"{self._prefix}/{hint}_{self._count}"
            if name not in self._used:
                self._used.add(name)
                return name

    def constant(self, value: NDArray[Any]) -> str:
        """The name of a constant; equal ones are one."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            name = self.name("constant")
            self._known[key] = name
            self.constants[name] = value
        return self._known[key]

    def number(self, value: ArrayLike) -> str:
        """A constant of the precision at hand: float32, unless it is set otherwise."""
        return self.constant(np.asarray(value, helper.tensor_dtype_to_np_dtype(self.precision)))

    def integers(self, value: ArrayLike) -> str:
        """An int64 constant."""
        return self.constant(np.asarray(value, np.int64))

    def zeros(self, shape: str) -> str:
        """Zeros of a shape that is computed."""
        found = self.op("ConstantOfShape", shape)
        return found if self.precision == FLOAT else self.op("Cast", found, to=self.precision)

    def op(self, operator: str, *inputs: str, out: str = "", **attributes: Attribute) -> str:
        """The output of a new node; an empty input is one left out, as is an attribute of None."""
        output = out or self.name(operator)
        self.nodes.append(node(operator, inputs, [output], **attributes))
        return output

    def tensors(self, only: Iterable[str] | None = None) -> list[TensorProto]:
        """The constants, or those named, as initializers."""
        wanted = self.constants if only is None else set(only)
        return [
            numpy_helper.from_array(value, name)
            for name, value in self.constants.items()
            if name in wanted
        ]
