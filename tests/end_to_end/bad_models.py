"""Classifiers that are good on the reference, and bad elsewhere: on far inputs, or on some hardware."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from tests.controller.registry.building import CLASSES, FEATURES, WEIGHTS, model_of, value

FAR: Final = 1e6
"""A first value that no row of the reference comes near."""
SIDE: Final = 1000


def file_of(nodes: Sequence[NodeProto], initializers: Sequence[tuple[str, NDArray[Any]]]) -> bytes:
    """A classifier to whose logits ``extra`` is added, which the nodes make of ``x`` or ``first``."""
    model = model_of(
        [
            helper.make_node("Slice", ["x", "zero", "one", "one"], ["first"]),
            *nodes,
            helper.make_node("MatMul", ["x", "w"], ["plain"]),
            helper.make_node("Add", ["plain", "extra"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        ],
        [value("x", TensorProto.FLOAT, ("N", FEATURES))],
        [
            value("label", TensorProto.INT64, ["N"]),
            value("probabilities", TensorProto.FLOAT, ["N", CLASSES]),
        ],
        [
            ("zero", np.array([0], np.int64)),
            ("one", np.array([1], np.int64)),
            ("w", WEIGHTS),
            *initializers,
        ],
    )
    return bytes(model.SerializeToString())


def cracked_file() -> bytes:
    """Its runtime fails at far inputs: a table has no such row."""
    return file_of(
        [
            helper.make_node("Div", ["first", "hundred"], ["share"]),
            helper.make_node("Floor", ["share"], ["floor"]),
            helper.make_node("Cast", ["floor"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["extra"], axis=0),
        ],
        [("hundred", np.array([100], np.float32)), ("table", np.zeros(2, np.float32))],
    )


def deadly_file() -> bytes:
    """It takes its process down at far inputs: a quotient that no integer holds is a SIGFPE on x86."""
    return file_of(
        [
            *_far(),
            helper.make_node("Mul", ["far", "two"], ["twice"]),
            helper.make_node("Sub", ["one", "twice"], ["sign"]),
            helper.make_node("Div", ["least", "sign"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["real", "nothing"], ["extra"]),
        ],
        [
            _FAR_LIMIT,
            ("two", np.array(2, np.int64)),
            ("least", np.array(np.iinfo(np.int64).min, np.int64)),
            ("nothing", np.array(0, np.float32)),
        ],
    )


def slow_file() -> bytes:
    """It takes many times longer at far inputs: it multiplies matrices of their size."""
    return file_of(
        [
            *_far(),
            helper.make_node("ReduceMax", ["far"], ["any"], keepdims=0),
            helper.make_node("Mul", ["any", "side"], ["more"]),
            helper.make_node("Add", ["more", "shape"], ["sides"]),
            helper.make_node("ConstantOfShape", ["sides"], ["square"]),
            helper.make_node("MatMul", ["square", "square"], ["product"]),
            helper.make_node("ReduceMax", ["product"], ["extra"], keepdims=0),
        ],
        [
            _FAR_LIMIT,
            ("side", np.array(SIDE, np.int64)),
            ("shape", np.array([1, 1], np.int64)),
        ],
    )


def rounding_file() -> bytes:
    """What it answers depends on how the processor rounds: to the nearest number, or up."""
    return file_of(
        [
            helper.make_node("Add", ["first", "large"], ["rounded"]),
            helper.make_node("Sub", ["rounded", "large"], ["left"]),
            helper.make_node("Mul", ["left", "few"], ["extra"]),
        ],
        [
            # Between it and the next number lie 8: the nearest to a little more is itself.
            ("large", np.array(1e8, np.float32)),
            ("few", np.array([1, 0, 0], np.float32)),
        ],
    )


_FAR_LIMIT: Final = ("limit", np.array(FAR / 2, np.float32))


def _far() -> list[NodeProto]:
    """``far`` [N, 1] is 1 where the first value is."""
    return [
        helper.make_node("Greater", ["first", "limit"], ["beyond"]),
        helper.make_node("Cast", ["beyond"], ["far"], to=TensorProto.INT64),
    ]
