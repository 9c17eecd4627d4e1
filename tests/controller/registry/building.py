"""Models and reference data for the registry's tests, built here: good ones, to be made bad."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from controller.registry.onnx_file import OnnxFile, read_onnx

Shape = Sequence[int | str | None]
FEATURES, CLASSES = 4, 3
WEIGHTS = np.array(
    [[1, -1, 0], [0, 1, -1], [-1, 0, 1], [0.5, 0.5, -1]], dtype=np.float32
)  # [FEATURES, CLASSES]


def value(name: str, kind: int, shape: Shape | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[tuple[str, NDArray[Any]]] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        list(inputs),
        list(outputs),
        [numpy_helper.from_array(array, name) for name, array in initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def classifier(scale: float = 1.0, x: Shape = ("N", FEATURES)) -> onnx.ModelProto:
    """``x`` [N, 4] to ``label`` [N] and ``probabilities`` [N, 3]."""
    return model_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        [value("x", TensorProto.FLOAT, x)],
        [
            value("label", TensorProto.INT64, ["N"]),
            value("probabilities", TensorProto.FLOAT, ["N", CLASSES]),
        ],
        [("w", WEIGHTS * np.float32(scale))],
    )


def unary(
    operator: str = "Relu", kind: int = TensorProto.FLOAT, shape: Shape | None = ("N", FEATURES)
) -> onnx.ModelProto:
    """One operator from ``x`` to ``z``."""
    node = helper.make_node(operator, ["x"], ["z"])
    return model_of([node], [value("x", kind, shape)], [value("z", kind, shape)])


def examined(model: onnx.ModelProto) -> OnnxFile:
    return read_onnx(model.SerializeToString())


def npz(**arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes ``allow_pickle`` for an array
    return file.getvalue()


def rows_and_truth(rows: int = 400, seed: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features, and the class that ``classifier`` gives them but for one row in twenty."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    truth = (x @ WEIGHTS).argmax(axis=1)
    truth[::20] = (truth[::20] + 1) % CLASSES
    return x, truth
