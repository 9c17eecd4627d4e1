"""Nodes that take the place of one."""

from collections.abc import Sequence

from onnx import NodeProto

from controller.train_step.emitter import Attribute, node
from controller.train_step.forms.forward import Forward
from controller.train_step.shapes import Axis


class Steps:
    """Nodes that are made one after the other, and the shapes of what they give.

    A length of -k is k times the batch.

    Attributes:
        nodes: so far.
    """

    def __init__(self, forward: Forward, batch: Axis) -> None:
        self.nodes: list[NodeProto] = []
        self.forward = forward
        self._batch = batch

    def take(
        self, operator: str, source: Sequence[str], lengths: Sequence[int], **attributes: Attribute
    ) -> str:
        """What an operator makes of its source."""
        made = self.named(operator, lengths)
        self.nodes.append(node(operator, source, [made], **attributes))
        return made

    def named(self, hint: str, lengths: Sequence[int]) -> str:
        """The name of a value of that shape, to be made."""
        return self.forward.made(hint, [self._axis(one) for one in lengths])

    def reshape(self, source: str, lengths: Sequence[int]) -> str:
        """The same elements."""
        target = self.forward.emitter.integers([max(one, -1) for one in lengths])
        return self.take("Reshape", [source, target], lengths)

    def _axis(self, length: int) -> Axis:
        few, more = self._batch
        return (length, length) if length >= 0 else (-length * few, -length * more)
