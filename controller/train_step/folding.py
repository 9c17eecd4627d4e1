"""Computes what depends on constants alone: exporters leave axes, shapes and casts as nodes."""

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from controller.registry.onnx_graph import described
from controller.train_step.errors import NotConvertible
from controller.train_step.graph import drop, has_subgraph, is_standard

# A dequantised weight stays an integer in the file; chance stays chance.
_KEPT: Final = (
    "DequantizeLinear",
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
)
MAX_FOLDED_ELEMENTS: Final = 2**26


def lift_constants(graph: GraphProto) -> None:
    """Makes an initializer of every Constant node."""
    for node in graph.node:
        if is_standard(node, "Constant"):
            tensor = _constant(node)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    drop(graph.node, lambda node: is_standard(node, "Constant"))


def _constant(node: NodeProto) -> TensorProto:
    attribute = node.attribute[0]
    values: NDArray[np.generic]
    match attribute.name:
        case "value":
            tensor = TensorProto()
            tensor.CopyFrom(attribute.t)
            return tensor
        case "value_float":
            values = np.asarray(attribute.f, np.float32)
        case "value_floats":
            values = np.asarray(attribute.floats, np.float32)
        case "value_int":
            values = np.asarray(attribute.i, np.int64)
        case "value_ints":
            values = np.asarray(attribute.ints, np.int64)
        case name:
            raise NotConvertible(f"{described(node)}: a constant given as {name}")
    return numpy_helper.from_array(values)


def fold(model: ModelProto) -> None:
    """Replaces nodes that depend on initializers alone by what they compute.

    Raises:
        NotConvertible: one of them can't be computed; names it.
    """
    graph = model.graph
    nodes = _foldable(graph)
    if not nodes:
        return
    wanted = [name for node in nodes for name in node.output if name]
    taken = {name for node in nodes for name in node.input}
    part = helper.make_graph(
        nodes,
        "constants",
        [],
        [onnx.ValueInfoProto(name=name) for name in wanted],
        [one for one in graph.initializer if one.name in taken],
    )
    whole = helper.make_model(part, opset_imports=model.opset_import)
    try:
        values = ReferenceEvaluator(whole).run(None, {})
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        first = described(nodes[0])
        raise NotConvertible(f"the constants from {first} on can't be computed: {error}") from error
    made = set(wanted)
    for name, value in zip(wanted, values, strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    drop(graph.node, lambda node: not made.isdisjoint(node.output))
    _drop_unused(graph)


def _foldable(graph: GraphProto) -> list[NodeProto]:
    known = {one.name for one in graph.initializer}
    outputs = {one.name for one in graph.output}
    found = []
    for node in graph.node:
        constant = len(node.input) > 0 and all(not name or name in known for name in node.input)
        computed = is_standard(node) and node.op_type not in _KEPT and not has_subgraph(node)
        if constant and computed and not outputs & set(node.output) and not _too_large(graph, node):
            found.append(node)
            known.update(node.output)
    return found


def _too_large(graph: GraphProto, node: NodeProto) -> bool:
    """Whether it would make much of little, as Expand and ConstantOfShape can."""
    if not is_standard(node, "Expand", "ConstantOfShape", "Tile", "Range", "OneHot"):
        return False
    lengths = [one for one in graph.initializer if one.name in node.input]
    asked = [float(np.prod(numpy_helper.to_array(one), dtype=np.float64)) for one in lengths]
    return any(abs(one) > MAX_FOLDED_ELEMENTS for one in asked)


def _drop_unused(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    used |= {one.name for one in graph.output}
    drop(graph.initializer, lambda one: one.name not in used)
