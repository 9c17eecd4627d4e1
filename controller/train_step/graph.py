"""Reading ONNX graphs: attributes, ancestors, order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

FLOATS: Final = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)
Item = TypeVar("Item", covariant=True)  # noqa: PLC0105 - the field gives them

STANDARD: Final = frozenset({"", "ai.onnx"})
"""How a file may spell the domain of ONNX's own operators."""


class Field(Protocol[Item]):
    """A repeated field of a message."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...

    def __delitem__(self, index: int) -> None: ...


def drop(field: Field[Item], gone: Callable[[Item], bool]) -> None:
    """Removes some of a repeated field, without copying or comparing the others."""
    for index in reversed(range(len(field))):
        if gone(field[index]):
            del field[index]


@dataclass(frozen=True, slots=True)
class Attributes:
    """A node's attributes, typed; each with what holds where the node does not say."""

    node: NodeProto

    def has(self, name: str) -> bool:
        """Whether the node says it."""
        return self._find(name) is not None

    def integer(self, name: str, default: int) -> int:
        """One number."""
        found = self._find(name)
        return default if found is None else int(found.i)

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """A list."""
        found = self._find(name)
        return list(default) if found is None else [int(one) for one in found.ints]

    def number(self, name: str, default: float) -> float:
        """One real number."""
        found = self._find(name)
        return default if found is None else float(found.f)

    def numbers(self, name: str, default: Sequence[float]) -> list[float]:
        """A list."""
        found = self._find(name)
        return list(default) if found is None else [float(one) for one in found.floats]

    def text(self, name: str, default: str) -> str:
        """A word."""
        found = self._find(name)
        return default if found is None else found.s.decode()

    def texts(self, name: str) -> list[str]:
        """A list of words; empty where the node does not say it."""
        found = self._find(name)
        return [] if found is None else [one.decode() for one in found.strings]

    def _find(self, name: str) -> AttributeProto | None:
        return next((one for one in self.node.attribute if one.name == name), None)


def is_standard(node: NodeProto, *operators: str) -> bool:
    """Whether it is an operator of ONNX itself, and one of these if any are named."""
    return node.domain in STANDARD and (not operators or node.op_type in operators)


def opset(model: ModelProto) -> int:
    """The version of ONNX's own operators; 0 if none is imported."""
    return max(
        (int(one.version) for one in model.opset_import if one.domain in STANDARD), default=0
    )


def initializers(graph: GraphProto) -> Mapping[str, TensorProto]:
    """By name."""
    return {one.name: one for one in graph.initializer}


def producers(nodes: Iterable[NodeProto]) -> Mapping[str, NodeProto]:
    """The node that makes each value."""
    return {output: node for node in nodes for output in node.output if output}


def names(graph: GraphProto) -> set[str]:
    """Every name of a value."""
    of_nodes = {name for node in graph.node for name in (*node.input, *node.output)}
    of_ports = {one.name for one in (*graph.input, *graph.output)}
    return of_nodes | of_ports | {one.name for one in graph.initializer}


def model_inputs(graph: GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must give: old files list their weights as inputs, too."""
    weights = initializers(graph)
    return [one for one in graph.input if one.name not in weights]


def ancestors(graph: GraphProto, outputs: Iterable[str]) -> list[NodeProto]:
    """The nodes that the outputs depend on, in the graph's own order."""
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if any(output in needed for output in node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
    return kept[::-1]


def ordered(nodes: Iterable[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    """Those of the nodes that the outputs need, each behind what it needs."""
    made_by = producers(nodes)
    order: list[NodeProto] = []
    begun: set[int] = set()
    stack = [(made_by[name], False) for name in reversed(outputs) if name in made_by]
    while stack:
        node, finished = stack.pop()
        if finished:
            order.append(node)
        elif id(node) not in begun:
            begun.add(id(node))
            stack.append((node, True))
            stack += [(made_by[name], False) for name in node.input if name in made_by]
    return order


def elem_type(value: onnx.ValueInfoProto) -> int:
    """Its type, as in ``TensorProto``."""
    return int(value.type.tensor_type.elem_type)


def minimal_ir_version(model: ModelProto) -> int:
    """The oldest intermediate representation that allows the model's operator sets.

    Old runtimes refuse a newer one before they look at the operators.
    """
    return helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
