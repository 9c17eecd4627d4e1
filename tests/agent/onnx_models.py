"""Small ONNX models for tests, each with the manifest that belongs to it."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.inference.golden import Golden, encode
from protos.manifest import Budgets, File, Manifest, Needs, Role, Semantic, Tensor

OPSET = 17
IR_VERSION = 10
MIB = 1024 * 1024


def model_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Sequence[int | str]]],
    outputs: Sequence[tuple[str, int, Sequence[int | str]]],
    initializers: Sequence[tuple[str, NDArray[Any]]] = (),
) -> bytes:
    """A checked ONNX model of one graph; inputs and outputs are (name, TensorProto type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tensor(name: str, dtype: str, *shape: int, **more: Any) -> Tensor:
    more.setdefault("semantic", Semantic.NUMERIC)
    return Tensor(name=name, dtype=dtype, shape=shape, **more)


def manifest_of(  # one argument a part of the manifest
    model: bytes,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    name: str = "linear",
    version: int = 1,
    golden: bytes = b"",
    reference: bytes = b"",
    latency: float = 1.0,
    memory: int = 256 * MIB,
) -> Manifest:
    def file(data: bytes) -> File:
        return File(sha256=hashlib.sha256(data).hexdigest(), length=len(data))

    return Manifest(
        model=name,
        version=version,
        release_counter=version,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        files={
            Role.MODEL: file(model),
            Role.REFERENCE: file(reference),
            Role.GOLDEN: file(golden),
            Role.CARD: file(b"card"),
        },
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=latency, memory_bytes=memory),
    )


def linear_model(features: int = 4, classes: int = 3, scale: float = 1.0) -> bytes:
    """``scores = x · W`` and ``label = argmax(scores)``; W counts up from 0, times ``scale``."""
    weights = (np.arange(features * classes, dtype=np.float32) * scale).reshape(features, classes)
    return model_bytes(
        [
            helper.make_node("MatMul", ["x", "weights"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        [("x", TensorProto.FLOAT, ["batch", features])],
        [
            ("scores", TensorProto.FLOAT, ["batch", classes]),
            ("label", TensorProto.INT64, ["batch"]),
        ],
        [("weights", weights)],
    )


def linear_golden(features: int = 4, classes: int = 3, scale: float = 1.0, rows: int = 3) -> Golden:
    weights = (np.arange(features * classes, dtype=np.float32) * scale).reshape(features, classes)
    x = np.arange(rows * features, dtype=np.float32).reshape(rows, features)
    scores = x @ weights
    return Golden({"x": x}, {"scores": scores, "label": scores.argmax(axis=1)}, {})


def linear_manifest(
    model: bytes, features: int = 4, classes: int = 3, scale: float = 1.0, **more: Any
) -> Manifest:
    more.setdefault("golden", encode(linear_golden(features, classes, scale)))
    return manifest_of(
        model,
        [tensor("x", "FP32", -1, features)],
        [tensor("scores", "FP32", -1, classes), tensor("label", "INT64", -1)],
        **more,
    )


def constant_model(value: float, features: int = 4) -> bytes:
    """Answers ``value`` for every row, whatever the row: which version answered can be seen."""
    return model_bytes(
        [
            helper.make_node("Mul", ["x", "zero"], ["none"]),
            helper.make_node("Add", ["none", "value"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", features])],
        [("y", TensorProto.FLOAT, ["batch", features])],
        [
            ("zero", np.zeros(1, dtype=np.float32)),
            ("value", np.full(1, value, dtype=np.float32)),
        ],
    )


def constant_manifest(model: bytes, version: int, features: int = 4, **more: Any) -> Manifest:
    x = np.ones((2, features), dtype=np.float32)
    more.setdefault("golden", encode(Golden({"x": x}, {"y": x * version}, {})))
    return manifest_of(
        model,
        [tensor("x", "FP32", -1, features)],
        [tensor("y", "FP32", -1, features)],
        name=more.pop("name", "constant"),
        version=version,
        **more,
    )


def identity_model(kind: int, length: int | str = "n") -> bytes:
    """``y = x`` for any type, BYTES included."""
    return model_bytes(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", kind, ["batch", length])],
        [("y", kind, ["batch", length])],
    )


def identity_manifest(model: bytes, dtype: str, **more: Any) -> Manifest:
    return manifest_of(
        model,
        [tensor("x", dtype, -1, -1)],
        [tensor("y", dtype, -1, -1)],
        name=more.pop("name", "identity"),
        **more,
    )
