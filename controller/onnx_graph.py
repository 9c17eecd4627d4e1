"""What an ONNX graph holds, subgraphs of control flow included, and what of it may not be there."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

OPERATOR_DOMAINS: Final = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}
"""The domains whose operators every ONNX runtime has, by how a file may spell them."""

MAX_SUBGRAPH_DEPTH: Final = 16
MAX_TENSOR_ELEMENTS: Final = 2**31

# Bits of one element as it stands in ``raw_data``; of strings there is no raw form.
_RAW_BITS: Final[dict[int, int]] = {
    TensorProto.FLOAT: 32,
    TensorProto.UINT8: 8,
    TensorProto.INT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
    TensorProto.BFLOAT16: 16,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One graph and how it is reached: "the graph", "node 'if' (If), then_branch"."""

    where: str
    graph: GraphProto
    depth: int


def parts(model: ModelProto) -> Iterator[Part]:
    """The main graph and every subgraph. One level below ``MAX_SUBGRAPH_DEPTH`` is the last."""
    waiting = [Part("the graph", model.graph, 0)]
    while waiting:
        part = waiting.pop()
        yield part
        if part.depth > MAX_SUBGRAPH_DEPTH:
            continue
        for node in part.graph.node:
            for attribute in node.attribute:
                graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
                where = f"{described(node)}, {attribute.name}"
                waiting += [Part(where, graph, part.depth + 1) for graph in graphs]


def described(node: NodeProto) -> str:
    """The node as messages name it."""
    outputs = ", ".join(node.output)
    return f"node {node.name or outputs!r} ({operator(node)})"


def operator(node: NodeProto) -> str:
    """The operator with its domain, if it has one: "Gemm", "ai.onnx.ml.Scaler"."""
    domain = OPERATOR_DOMAINS.get(node.domain, node.domain)
    return f"{domain}.{node.op_type}" if domain else node.op_type


def graph_objections(model: ModelProto) -> list[str]:
    """Everything in the graphs that may not be there."""
    found = []
    if model.functions:
        names = ", ".join(f"{one.domain}.{one.name}" for one in model.functions[:3])
        found.append(f"local functions ({names}): inline them with onnx.inliner first")
    if model.training_info:
        found.append("training information: export the model for inference")
    for part in parts(model):
        if part.depth > MAX_SUBGRAPH_DEPTH:
            found.append(f"{part.where}: subgraphs more than {MAX_SUBGRAPH_DEPTH} deep")
        found += [
            f"{part.where}: {described(node)} is a custom operator; a device has those of ONNX "
            "itself and of ai.onnx.ml only"
            for node in part.graph.node
            if node.domain not in OPERATOR_DOMAINS
        ]
        for tensor in tensors(part.graph):
            found += [f"{part.where}: {objection}" for objection in _tensor_objections(tensor)]
    return found


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor that stands in this graph's own level: initializers and nodes' attributes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from _of_sparse(sparse)
    for node in graph.node:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def _of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("sparse_tensor"):
        yield from _of_sparse(attribute.sparse_tensor)
    for sparse in attribute.sparse_tensors:
        yield from _of_sparse(sparse)


def _of_sparse(sparse: SparseTensorProto) -> Iterator[TensorProto]:
    if sparse.HasField("values"):
        yield sparse.values
    if sparse.HasField("indices"):
        yield sparse.indices


def _tensor_objections(tensor: TensorProto) -> Iterator[str]:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        yield _external(tensor)
        return
    dims = list(tensor.dims)
    if any(length < 0 for length in dims):
        yield f"tensor {tensor.name!r} declares the shape {dims}"
        return
    elements = math.prod(dims)
    if elements > MAX_TENSOR_ELEMENTS:
        yield f"tensor {tensor.name!r} declares {elements:,} elements: more than a file can hold"
    elif tensor.HasField("raw_data") and tensor.data_type in _RAW_BITS:
        expected = elements * _RAW_BITS[tensor.data_type] // 8
        if len(tensor.raw_data) != expected:
            yield (
                f"tensor {tensor.name!r} declares {expected:,} bytes "
                f"and has {len(tensor.raw_data):,}"
            )


def _external(tensor: TensorProto) -> str:
    location = next((one.value for one in tensor.external_data if one.key == "location"), "")
    outside = (
        location.startswith(("/", "\\"))
        or PureWindowsPath(location).drive
        or ".." in PurePosixPath(location.replace("\\", "/")).parts
    )
    where = ", outside of the model's folder" if outside else ""
    return (
        f"tensor {tensor.name!r} keeps its data in another file ({location[:80]!r}{where}): "
        "save the model with its weights inside (save_as_external_data=False)"
    )


def operators(model: ModelProto) -> tuple[str, ...]:
    """The operators used, each once, sorted."""
    return tuple(sorted({operator(node) for part in parts(model) for node in part.graph.node}))


def parameters(model: ModelProto) -> int:
    """How many numbers the model has: tensors, and the lists of floats of trees and linear models."""
    stored = sum(math.prod(one.dims) for part in parts(model) for one in tensors(part.graph))
    listed = sum(
        len(attribute.floats)
        for part in parts(model)
        for node in part.graph.node
        for attribute in node.attribute
    )
    return stored + listed
