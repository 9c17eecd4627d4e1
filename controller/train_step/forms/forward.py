"""The forward pass while it is put into another form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from agent.inference.datatypes import Array
from controller.train_step.emitter import FLOAT, Emitter
from controller.train_step.shapes import Shape, varies


@dataclass(frozen=True, slots=True)
class Forward:
    """What a form may look at and change.

    Attributes:
        nodes: each behind what it needs; a form may replace any, but keeps the names of values that
            others take.
        shapes: of every tensor; a form adds those of values that it makes.
        types: likewise, as in ``TensorProto``.
        constants: tensors whose value is known.
        active: the parameters, and what depends on one. The rest is left to the runtime, which has
            forms of its own for what is constant.
        output: what the loss is of.
        emitter: of names and constants.
    """

    nodes: list[NodeProto]
    shapes: dict[str, Shape]
    types: dict[str, int]
    constants: Mapping[str, Array]
    active: set[str]
    output: str
    emitter: Emitter

    def users(self) -> dict[str, list[NodeProto]]:
        """The nodes that take each value."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    def trains(self, node: NodeProto) -> bool:
        """Whether a gradient goes through the node, of float32."""
        kind = self.types.get(node.output[0])
        return kind == FLOAT and any(name in self.active for name in node.input)

    def integers(self, name: str) -> list[int] | None:
        """The integers of a value that is known."""
        found = self.constants.get(name)
        return None if found is None else [int(one) for one in found.ravel()]

    def length(self, name: str, axis: int) -> int:
        """Of an axis; -1 if it varies."""
        found = self.shapes[name][axis]
        return -1 if varies(found) else found[0]

    def made(self, hint: str, shape: Sequence[tuple[int, int]]) -> str:
        """The name of a new float32 value that is trained through."""
        name = self.emitter.name(hint)
        self.shapes[name], self.types[name] = tuple(shape), FLOAT
        self.active.add(name)
        return name

    def replace(self, old: Iterable[NodeProto], new: Sequence[NodeProto], at: NodeProto) -> None:
        """Puts new nodes where ``at`` stands, and takes the old ones, of which it is one, away."""
        place = next(index for index, node in enumerate(self.nodes) if node is at)
        self.nodes[place + 1 : place + 1] = new
        gone = {id(node) for node in old}
        self.nodes[:] = [node for node in self.nodes if id(node) not in gone]
