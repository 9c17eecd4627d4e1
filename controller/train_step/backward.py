"""The reverse sweep: from the gradient of the loss by the output to that by the parameters."""

from collections.abc import Iterable, Mapping, Sequence

from onnx import NodeProto, TensorProto

from agent.inference.datatypes import Array
from controller.onnx_graph import described
from controller.train_step.emitter import FLOAT, Emitter
from controller.train_step.errors import NoGradientRule, NotFloat32
from controller.train_step.graph import FLOATS, is_standard
from controller.train_step.refusals import refuse_operator
from controller.train_step.shapes import Probe
from controller.train_step.site import Rule, Site


def active_values(
    forward: Iterable[NodeProto], parameters: Iterable[str], types: Mapping[str, int]
) -> set[str]:
    """The parameters, and every float value that depends on one.

    The second input of CastLike gives a type and no value.

    Raises:
        QuantizedBody: one is made an integer on the way, where its gradient would be lost.
    """
    active = set(parameters)
    for node in forward:
        valued = node.input[:1] if is_standard(node, "CastLike") else node.input
        if any(name in active for name in valued):
            refuse_operator(node)
            active.update(name for name in node.output if types.get(name) in FLOATS)
    return active


class Adjoint:
    """The gradient of each value as far as it is known; several uses of a value add up."""

    def __init__(self, emitter: Emitter, seeds: Mapping[str, str]) -> None:
        self._emitter = emitter
        self._found = {value: [gradient] for value, gradient in seeds.items()}

    def add(self, value: str, gradient: str) -> None:
        """One more use of the value."""
        self._found.setdefault(value, []).append(gradient)

    def total(self, value: str) -> str | None:
        """The sum over all uses; None without any."""
        found = self._found.get(value)
        if not found:
            return None
        if len(found) > 1:
            operator = "Add" if len(found) == 2 else "Sum"
            found[:] = [self._emitter.op(operator, *found)]
        return found[0]


def backward(
    emitter: Emitter,
    forward: Sequence[NodeProto],
    seen: Probe,
    constants: Mapping[str, Array],
    seeds: Mapping[str, str],
    parameters: Sequence[str],
    rules: Mapping[str, Rule],
) -> dict[str, str | None]:
    """Appends the adjoint of ``forward`` to the emitter; the gradient of each parameter.

    Only nodes between a parameter and the loss need a rule. A parameter on which the loss does not
    depend has None. In ``forward`` each node stands behind what it needs, and rules may ask them for
    further outputs. ``seeds`` are gradients of the loss that are known, by value.

    Raises:
        NotTrainable: a node on the way has no rule, or computes in half precision; names it.
    """
    active = active_values(forward, parameters, seen.types)
    adjoint = Adjoint(emitter, seeds)
    for node in reversed(forward):
        if not any(name in active for name in node.input):
            continue
        gradients = [adjoint.total(name) for name in node.output]
        if not any(gradients):
            continue
        site = Site(
            emitter=emitter,
            node=node,
            gradients=gradients,
            needed=[name in active for name in node.input],
            shapes=seen.shapes,
            types=seen.types,
            constants=constants,
        )
        emitter.precision = _precision(node, seen.types)
        inputs = list(node.input)
        for name, gradient in zip(inputs, _rule(node, active, rules)(site), strict=False):
            if gradient and name in active:
                adjoint.add(name, gradient)
    emitter.precision = FLOAT
    return {name: adjoint.total(name) for name in parameters}


def _precision(node: NodeProto, types: Mapping[str, int]) -> int:
    """In which the node computes.

    Raises:
        NotFloat32: in less than that; a gradient would be lost in it.
    """
    kind = types.get(node.output[0], FLOAT)
    if kind in {TensorProto.FLOAT16, TensorProto.BFLOAT16}:
        raise NotFloat32(f"{described(node)} computes in {TensorProto.DataType.Name(kind)}")
    return kind if kind == TensorProto.DOUBLE else FLOAT


def _rule(node: NodeProto, active: set[str], rules: Mapping[str, Rule]) -> Rule:
    rule = rules.get(node.op_type) if is_standard(node) else None
    if rule is None:
        refuse_operator(node)
        reached = ", ".join(sorted(repr(name) for name in set(node.input) & active)[:3])
        raise NoGradientRule(f"no gradient rule for {described(node)}, which {reached} reaches")
    return rule
