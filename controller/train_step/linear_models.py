"""Linear models of ai.onnx.ml, as skl2onnx writes them, in operators of ONNX itself."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from controller.onnx_graph import described
from controller.train_step.emitter import Emitter
from controller.train_step.errors import NotConvertible
from controller.train_step.graph import Attributes, names, producers

_DOMAIN: Final = "ai.onnx.ml"


def lower_linear_models(model: ModelProto) -> None:
    """Replaces linear classifiers, linear regressors, scalers and what stands around them.

    Raises:
        NotConvertible: a node's transform is another than these.
    """
    graph = model.graph
    lowered: list[NodeProto] = []
    emitter = Emitter(names(graph), prefix="linear")
    changed = False
    for node in graph.node:
        lower = _LOWERED.get(node.op_type) if node.domain == _DOMAIN else None
        if lower is None or not lower(graph, node, emitter):
            lowered.append(node)
            continue
        changed = True
        lowered += emitter.nodes
        emitter.nodes.clear()
    if changed:
        graph.initializer.extend(emitter.tensors())
        kept = [_copy(node) for node in lowered]
        graph.ClearField("node")
        graph.node.extend(kept)


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _zip_map(graph: GraphProto, node: NodeProto, e: Emitter) -> bool:
    """A map of probabilities by label becomes their tensor, under its name."""
    e.op("Identity", node.input[0], out=node.output[0])
    for output in graph.output:
        if output.name == node.output[0]:
            tensor = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["batch", None])
            output.CopyFrom(tensor)
    return True


def _normalizer(graph: GraphProto, node: NodeProto, e: Emitter) -> bool:
    """What divides a softmax by its sum does nothing."""
    source = producers(graph.node).get(node.input[0])
    softmax = source is not None and _gives_softmax(source)
    if not softmax or Attributes(node).text("norm", "MAX") != "L1":
        return False
    e.op("Identity", node.input[0], out=node.output[0])
    return True


def _gives_softmax(node: NodeProto) -> bool:
    transform = Attributes(node).text("post_transform", "NONE")
    return node.op_type == "Softmax" or (
        node.op_type == "LinearClassifier" and transform == "SOFTMAX"
    )


def _scaler(_graph: GraphProto, node: NodeProto, e: Emitter) -> bool:
    """Scaler: ``(x - offset) * scale``."""
    attributes = Attributes(node)
    offset = e.number(attributes.numbers("offset", [0.0]))
    scale = e.number(attributes.numbers("scale", [1.0]))
    e.op("Mul", e.op("Sub", node.input[0], offset), scale, out=node.output[0])
    return True


def _regressor(_graph: GraphProto, node: NodeProto, e: Emitter) -> bool:
    attributes = Attributes(node)
    if attributes.text("post_transform", "NONE") != "NONE":
        raise NotConvertible(f"{described(node)}: only without a post_transform")
    targets = attributes.integer("targets", 1)
    weights = np.asarray(attributes.numbers("coefficients", []), np.float32).reshape(targets, -1)
    intercepts = attributes.numbers("intercepts", [0.0] * targets)
    _gemm(node, e, weights, np.asarray(intercepts, np.float32), out=node.output[0])
    return True


def _classifier(_graph: GraphProto, node: NodeProto, e: Emitter) -> bool:
    attributes = Attributes(node)
    labels = _labels(attributes)
    flat = np.asarray(attributes.numbers("coefficients", []), np.float32)
    intercepts = np.asarray(attributes.numbers("intercepts", [0.0]), np.float32)
    weights = flat.reshape(len(intercepts), -1)
    scores = node.output[1]
    match attributes.text("post_transform", "NONE"):
        case "LOGISTIC" if len(labels) == 2:  # rows [-w, w]: one logit is enough
            logit = _gemm(node, e, weights[-1:], intercepts[-1:])
            likely = e.op("Sigmoid", logit)
            rest = e.op("Sub", e.number(1.0), likely)
            e.op("Concat", rest, likely, axis=1, out=scores)
        case "LOGISTIC":  # one against the rest, for each class
            e.op("Sigmoid", _gemm(node, e, weights, intercepts), out=scores)
        case "SOFTMAX":
            e.op("Softmax", _gemm(node, e, weights, intercepts), axis=1, out=scores)
        case "NONE":
            _gemm(node, e, weights, intercepts, out=scores)
        case transform:
            raise NotConvertible(f"{described(node)}: post_transform {transform}")
    best = e.op("ArgMax", scores, axis=1, keepdims=0)
    e.op("Gather", e.constant(labels), best, out=node.output[0])
    return True


def _labels(attributes: Attributes) -> NDArray[Any]:
    """Of the classes, in their order: integers or text."""
    texts = attributes.texts("classlabels_strings")
    if texts:
        return np.asarray(texts, np.object_)
    return np.asarray(attributes.integers("classlabels_ints", []), np.int64)


def _gemm(
    node: NodeProto, e: Emitter, weights: NDArray[Any], intercepts: NDArray[Any], out: str = ""
) -> str:
    name = node.name or node.output[-1]
    e.constants[f"{name}/coefficients"] = weights
    e.constants[f"{name}/intercepts"] = intercepts
    return e.op(
        "Gemm", node.input[0], f"{name}/coefficients", f"{name}/intercepts", transB=1, out=out
    )


_LOWERED: Final[Mapping[str, Callable[[GraphProto, NodeProto, Emitter], bool]]] = {
    "ZipMap": _zip_map,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
    "LinearRegressor": _regressor,
    "LinearClassifier": _classifier,
}
