"""Models that may not run, and files that are none: each with the reason that it is refused for."""

import gzip
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable

import joblib  # type: ignore[import-untyped]
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.controller.registry.building import (
    FEATURES,
    WEIGHTS,
    classifier,
    model_of,
    npz,
    unary,
    value,
)

GOOD = classifier().SerializeToString()


def zipped(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def dumped(value_: object, compress: int | tuple[str, int] = 0) -> bytes:
    file = io.BytesIO()
    joblib.dump(value_, file, compress=compress)
    return file.getvalue()


PICKLED = {"weights": [1.0, 2.0]}
OTHER_FILES = {
    "empty": (b"", "empty"),
    **{f"pickle {n}": (pickle.dumps(PICKLED, n), "a Python pickle: never accepted") for n in range(6)},
    "pickled object": (pickle.dumps(np.float32(1), 0), "a Python pickle: never accepted"),
    "pickled list": (pickle.dumps([1], 0), "a Python pickle: never accepted"),
    "joblib": (dumped(PICKLED), "a Python pickle: never accepted"),
    "joblib zlib": (dumped(PICKLED, 3), "compressed with zlib, as joblib writes pickles"),
    "joblib gzip": (dumped(PICKLED, ("gzip", 3)), "compressed with gzip, as joblib"),
    "joblib bz2": (dumped(PICKLED, ("bz2", 3)), "compressed with bzip2, as joblib"),
    "joblib xz": (dumped(PICKLED, ("xz", 3)), "compressed with xz, as joblib"),
    "gzipped onnx": (gzip.compress(GOOD), "give the ONNX file itself"),
    "deflated onnx": (zlib.compress(GOOD), "give the ONNX file itself"),
    "torch": (zipped("archive/data.pkl", b"\x80\x02}."), "a PyTorch checkpoint"),
    "keras": (zipped("config.json", b"{}"), "a ZIP archive, such as PyTorch and Keras write"),
    "npz": (npz(x=WEIGHTS), "is it the reference data?"),
    "npy": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5, such as Keras writes"),
    "safetensors": (
        (2).to_bytes(8, "little") + b'{"a":{}}' + bytes(8),
        "safetensors, which holds weights but no computation",
    ),
    "gguf": (b"GGUF\x03\x00\x00\x00", "GGUF weights"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(16), "a TensorFlow Lite model"),
    "ort": (b"\x1c\x00\x00\x00ORTM" + bytes(16), "onnxruntime's own format"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "html": (b"<!DOCTYPE html><html></html>", "a web page"),
    "json": (b'{"model": 1}', "JSON"),
    "text": (b"hello, this is no model at all", "not an ONNX file"),
    "cut short": (GOOD[:-20], "not an ONNX file: cut short"),
    "a name that is not UTF-8": (GOOD.replace(b"MatMul", b"Mat\xfful"), "its op_type is not UTF-8"),
    "only a header": (b"\x08\x08", "it has no graph"),
}  # fmt: skip


def external(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=list(WEIGHTS.shape))
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_external(location: str) -> onnx.ModelProto:
    model = classifier()
    model.graph.initializer[0].CopyFrom(external(location))
    return model


def branching(branch: onnx.GraphProto) -> onnx.ModelProto:
    """An If whose branches are both ``branch``."""
    return model_of(
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
            helper.make_node("If", ["yes"], ["z"], "if", then_branch=branch, else_branch=branch),
        ],
        [value("x", TensorProto.FLOAT, ["N", FEATURES])],
        [value("z", TensorProto.FLOAT, ["N", FEATURES])],
    )


def branch_of(node: onnx.NodeProto, *initializers: onnx.TensorProto) -> onnx.GraphProto:
    outputs = [value(node.output[0], TensorProto.FLOAT, ["N", FEATURES])]
    return helper.make_graph([node], "branch", [], outputs, list(initializers))


def custom_operator() -> onnx.ModelProto:
    model = unary()
    model.graph.node[0].domain = "com.microsoft"
    model.graph.node[0].op_type = "FusedGelu"
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def custom_operator_in_a_branch() -> onnx.ModelProto:
    return branching(branch_of(helper.make_node("Evil", ["x"], ["b"], "evil", domain="my.ops")))


def external_in_a_branch() -> onnx.ModelProto:
    return branching(branch_of(helper.make_node("Add", ["x", "w"], ["b"]), external("w.bin")))


def external_in_a_constant() -> onnx.ModelProto:
    model = unary()
    model.graph.node.add(op_type="Constant", output=["c"]).attribute.add(
        name="value", type=onnx.AttributeProto.TENSOR, t=external("c.bin")
    )
    return model


def external_in_a_sparse_initializer() -> onnx.ModelProto:
    model = unary()
    model.graph.sparse_initializer.add(values=external("s.bin"), dims=[4])
    return model


def local_function() -> onnx.ModelProto:
    model = unary()
    model.functions.append(
        helper.make_function(
            "mine",
            "Twice",
            ["a"],
            ["b"],
            [helper.make_node("Add", ["a", "a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )
    return model


def training_info() -> onnx.ModelProto:
    model = unary()
    model.training_info.add().initialization.name = "start"
    return model


def cyclic() -> onnx.ModelProto:
    return model_of(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])],
        [value("x", TensorProto.FLOAT, ["N", 4])],
        [value("b", TensorProto.FLOAT, ["N", 4])],
    )


def huge_tensor() -> onnx.ModelProto:
    model = classifier()
    model.graph.initializer[0].dims[:] = [2**40, 2]
    return model


def lying_tensor() -> onnx.ModelProto:
    model = classifier()
    model.graph.initializer[0].dims[:] = [1000, 1000]
    return model


def negative_tensor() -> onnx.ModelProto:
    model = classifier()
    model.graph.initializer[0].dims[:] = [-4, 3]
    return model


def huge_value() -> onnx.ModelProto:
    shape = numpy_helper.from_array(np.array([100_000, 100_000], np.int64), "s")
    model = model_of(
        [
            helper.make_node("ConstantOfShape", ["s"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["z"]),
        ],
        [value("x", TensorProto.FLOAT, ["N", 4])],
        [value("z", TensorProto.FLOAT, ["N", 4])],
    )
    model.graph.initializer.append(shape)
    return model


def no_outputs() -> onnx.ModelProto:
    model = unary()
    del model.graph.output[:]
    return model


def no_inputs() -> onnx.ModelProto:
    constant = helper.make_node(
        "Constant", [], ["z"], value=numpy_helper.from_array(np.ones((1, 4), np.float32))
    )
    return model_of([constant], [], [value("z", TensorProto.FLOAT, ["N", 4])])


def duplicate_output() -> onnx.ModelProto:
    model = unary()
    model.graph.output.append(model.graph.output[0])
    return model


def duplicate_value() -> onnx.ModelProto:
    model = unary()
    model.graph.node.append(model.graph.node[0])
    return model


def typed(kind: onnx.TypeProto, side: str = "output") -> onnx.ModelProto:
    model = unary()
    getattr(model.graph, side)[0].type.CopyFrom(kind)
    return model


def zipmap() -> onnx.ModelProto:
    model = classifier()
    model.graph.node.append(
        helper.make_node(
            "ZipMap", ["probabilities"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
        )
    )
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    kind = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    model.graph.output[1].name = "maps"
    model.graph.output[1].type.CopyFrom(helper.make_sequence_type_proto(kind))
    return model


def with_opset(version: int) -> onnx.ModelProto:
    model = unary()
    model.opset_import[0].version = version
    return model


def with_ir(version: int) -> onnx.ModelProto:
    model = unary()
    model.ir_version = version
    return model


def imported_twice(version: int = 13) -> onnx.ModelProto:
    model = unary()
    model.opset_import.add(domain="ai.onnx", version=version)
    return model


FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 4])
BAD_MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "custom operator": (custom_operator, "(com.microsoft.FusedGelu) is a custom operator"),
    "custom operator in a branch": (
        custom_operator_in_a_branch,
        "node 'if' (If), then_branch: node 'evil' (my.ops.Evil) is a custom operator",
    ),
    "unknown operator": (lambda: unary("Reloo"), "No Op registered for Reloo"),
    "external data": (lambda: with_external("w.bin"), "in another file ('w.bin')"),
    "external data, up": (
        lambda: with_external("../../etc/passwd"),
        "('../../etc/passwd', outside of the model's folder)",
    ),
    "external data, absolute": (lambda: with_external("/etc/passwd"), "outside of the model's"),
    "external data, Windows": (lambda: with_external("C:\\w.bin"), "outside of the model's"),
    "external data in a branch": (external_in_a_branch, "then_branch: tensor 'w' keeps its data"),
    "external data in a constant": (external_in_a_constant, "('c.bin')"),
    "external data, sparse": (external_in_a_sparse_initializer, "('s.bin')"),
    "local function": (local_function, "local functions (mine.Twice)"),
    "training information": (training_info, "training information"),
    "cycle": (cyclic, "not a valid ONNX model"),
    "huge tensor": (huge_tensor, "tensor 'w' declares 2,199,023,255,552 elements"),
    "lying tensor": (lying_tensor, "tensor 'w' declares 4,000,000 bytes and has 48"),
    "negative tensor": (negative_tensor, "tensor 'w' declares the shape [-4, 3]"),
    "huge value": (huge_value, "value 'huge' has 10,000,000,000 elements"),
    "no outputs": (no_outputs, "no outputs"),
    "no inputs": (no_inputs, "no inputs"),
    "duplicate output": (duplicate_output, "output 'z' stands there twice"),
    "duplicate value": (duplicate_value, "not a valid ONNX model"),
    "zipmap": (zipmap, "export with zipmap=False"),
    "sequence": (
        lambda: typed(helper.make_sequence_type_proto(FLOATS), "input"),
        "input 'x' is of type sequence",
    ),
    "optional": (
        lambda: typed(helper.make_optional_type_proto(FLOATS), "input"),
        "input 'x' is of type optional",
    ),
    "bfloat16": (lambda: unary(kind=TensorProto.BFLOAT16), "input 'x' is of type BFLOAT16"),
    "complex": (lambda: unary("Identity", TensorProto.COMPLEX64), "of type COMPLEX64"),
    "symbolic axis": (
        lambda: unary(shape=("N", "length")),
        "input 'x' [N, length]: axis 1 ('length') is dynamic; only the first may be",
    ),
    "unknown axis": (lambda: unary(shape=("N", None)), "axis 1 has no length"),
    "empty axis": (lambda: unary(shape=("N", 0)), "axis 1 has length 0"),
    "fixed batch": (lambda: unary(shape=(32, 4)), "its first axis is fixed at 32"),
    "scalar": (lambda: unary(shape=()), "input 'x' is a scalar"),
    "no shape": (lambda: unary(shape=None), "input 'x' has no shape"),
    "huge row": (lambda: unary(shape=("N", 4096, 8192)), "one row is 134,217,728 bytes"),
    "old opset": (lambda: with_opset(6), "operator set 6; 7 to"),
    "future opset": (lambda: with_opset(999), "operator set 999; 7 to"),
    "old IR": (lambda: with_ir(2), "IR version 2; 3 to"),
    "future IR": (lambda: with_ir(99), "IR version 99; 3 to"),
    "imported twice": (imported_twice, "imported as version 17 and as 13"),
}
