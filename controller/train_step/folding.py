"""Computes what depends on constants alone: exporters leave axes, shapes and casts as nodes."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from controller.onnx_graph import described
from controller.train_step.errors import NotConvertible
from controller.train_step.graph import drop, initializers, is_standard

_COMPUTED: Final = """
    Abs Add And Cast CastLike Ceil Clip Concat ConstantOfShape Cos CumSum Div Equal Erf Exp Expand
    Flatten Floor Gather GatherElements GatherND Gemm Greater GreaterOrEqual Identity Less LessOrEqual
    Log MatMul Max Min Mod Mul Neg NonZero Not OneHot Or Pad Pow Range Reciprocal ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements
    ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Tile Transpose
    Trilu Unsqueeze Where Xor
"""
COMPUTED: Final = frozenset(_COMPUTED.split())
"""What exporters compute of constants, and numpy does fast."""

MAX_FOLDED_ELEMENTS: Final = 2**26
"""Of all results together: little can name much, as Expand and Range do."""

_SHAPE_ELEMENTS: Final = 1024  # tensors so small may be shapes, on which other shapes depend

# What the reference evaluator raises on constants that do not fit each other.
_FAILURES: Final = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
)


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

    One that can't be computed here is left to the runtime.
    """
    graph = model.graph
    known = dict(initializers(graph))
    outputs = {one.name for one in graph.output}
    left, gone = MAX_FOLDED_ELEMENTS, set[str]()
    for node in graph.node:
        constant = len(node.input) > 0 and all(not one or one in known for one in node.input)
        if not constant or not is_standard(node, *COMPUTED) or outputs & set(node.output):
            continue
        values = _values(node, known, model.opset_import, left)
        left -= sum(value.size for value in values.values())
        for name, value in values.items():
            known[name] = numpy_helper.from_array(value, name)
            gone.add(name)
    graph.initializer.extend(known[name] for name in known if name in gone)
    drop(graph.node, lambda node: not gone.isdisjoint(node.output))
    _drop_unused(graph)


def _values(
    node: NodeProto,
    known: Mapping[str, TensorProto],
    opsets: Iterable[onnx.OperatorSetIdProto],
    most: int,
) -> dict[str, NDArray[np.generic]]:
    """All that a node gives, by name; nothing if that is over ``most`` elements or unknown."""
    tensors = [known[name] for name in dict.fromkeys(node.input) if name]
    names = [name for name in node.output if name]
    if not 0 <= _elements(node, tensors, opsets) <= most:
        return {}
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = helper.make_graph([node], "constants", [], outputs, tensors)
    alone = helper.make_model(graph, opset_imports=list(opsets))
    with suppress(*_FAILURES), np.errstate(all="ignore"):
        values = ReferenceEvaluator(alone).run(None, {})
        return {name: np.asarray(one) for name, one in zip(names, values, strict=True)}
    return {}


def _elements(
    node: NodeProto, tensors: Sequence[TensorProto], opsets: Iterable[onnx.OperatorSetIdProto]
) -> int:
    """How many elements the node will give, before it is computed; -1 if that is not known."""
    if node.op_type == "NonZero":
        return prod(tensors[0].dims) * len(tensors[0].dims)
    small = [one for one in tensors if prod(one.dims) <= _SHAPE_ELEMENTS]
    inputs = [
        helper.make_tensor_value_info(one.name, one.data_type, one.dims)
        for one in tensors
        if prod(one.dims) > _SHAPE_ELEMENTS
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "shapes", inputs, outputs, small)
    model = helper.make_model(graph, opset_imports=list(opsets))
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return -1
    total = 0
    for output in inferred.graph.output:
        kind = output.type.tensor_type
        if not kind.HasField("shape") or not all(
            one.HasField("dim_value") for one in kind.shape.dim
        ):
            return -1
        total += prod(int(one.dim_value) for one in kind.shape.dim)
    return total


def _drop_unused(graph: GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    used |= {one.name for one in graph.output}
    drop(graph.initializer, lambda one: one.name not in used)
