"""What of a model can't be trained, by operator, and why."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto
from onnx.numpy_helper import to_array

from agent.inference.datatypes import Array
from controller.onnx_graph import described
from controller.train_step.errors import (
    NoGradientRule,
    NoParameters,
    NotFloat32,
    ProbabilityOutput,
    QuantizedBody,
    TrainingBatchNorm,
    TreeEnsemble,
)
from controller.train_step.graph import Attributes, initializers, is_standard, producers
from protos.train_step import OPERATORS, Loss

TREES: Final = frozenset({"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"})
QUANTIZED: Final = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    }
)
_HALVES: Final = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
_OF_LOGITS: Final = frozenset({Loss.SOFTMAX_CROSS_ENTROPY, Loss.BCE_WITH_LOGITS})
_MOVING: Final = (
    "Identity",
    "Cast",
    "Clip",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
_SUM_TOLERANCE: Final = 1e-3


def refuse_operator(node: NodeProto) -> None:
    """Nothing, for a node of which only the rule is missing.

    Raises:
        TreeEnsemble, QuantizedBody: there is none for what it is.
    """
    if node.op_type in TREES:
        raise TreeEnsemble(f"{described(node)} has no gradient")
    if node.op_type in QUANTIZED:
        raise QuantizedBody(f"{described(node)} computes with integers")


def refuse_forward(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Nothing, if devices may run each of these nodes in training.

    Raises:
        TrainingBatchNorm: one normalises by the batch at hand.
        TreeEnsemble: one is a tree ensemble.
        NoGradientRule: one has an operator that train-step graphs may not have, or drops at random.
    """
    tensors = initializers(model.graph)
    for node in nodes:
        if node.op_type == "BatchNormalization" and Attributes(node).integer("training_mode", 0):
            raise TrainingBatchNorm(f"{described(node)} is in training mode")
        if node.op_type in TREES:
            raise TreeEnsemble(f"{described(node)} has no gradient")
        if node.op_type == "Dropout" and _drops(node, tensors):
            raise NoGradientRule(f"{described(node)} drops at random: export it for inference")
        if not is_standard(node) or node.op_type not in OPERATORS:
            raise NoGradientRule(f"{described(node)} may not stand in a train-step graph")


def _drops(node: NodeProto, tensors: Mapping[str, TensorProto]) -> bool:
    """Whether it is, or may be, in training mode."""
    switch = node.input[2] if len(node.input) > 2 else ""
    return bool(switch) and (switch not in tensors or bool(to_array(tensors[switch])))


def refuse_parameters(model: ModelProto, nodes: Sequence[NodeProto], names: Sequence[str]) -> None:
    """Nothing, if there are parameters and all are float32.

    Raises:
        NotFloat32: one is not.
        NoParameters, TreeEnsemble, QuantizedBody: there are none; by what there is instead.
    """
    of = initializers(model.graph)
    for name in names:
        if of[name].data_type != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(of[name].data_type)
            raise NotFloat32(f"parameter {name!r} is {kind}, not FLOAT")
    if names:
        return
    for node in nodes:
        refuse_operator(node)
    halves = [one.name for one in model.graph.initializer if one.data_type in _HALVES]
    if halves:
        raise NotFloat32(f"the model's weights ({', '.join(halves[:3])}) are not FLOAT")
    raise NoParameters("the model has no trainable parameters")


def refuse_probabilities(
    loss: Loss, output: str, nodes: Iterable[NodeProto], seen: Array | None
) -> None:
    """Nothing, if a tensor from which the loss would take logits has no probabilities.

    Training on them does not fail: it learns badly. Rows that sum to 1 are some, and what a Sigmoid
    gives, moved about.

    Raises:
        ProbabilityOutput: it has.
    """
    if loss not in _OF_LOGITS:
        return
    if seen is not None and _sums_to_one(seen):
        raise ProbabilityOutput(f"the rows of {output!r} sum to 1, and no final Softmax made them")
    for node in _origins(output, producers(nodes)):
        if is_standard(node, "Sigmoid", "Softmax", "HardSigmoid"):
            raise ProbabilityOutput(f"{output!r} is made of {described(node)}")


def _sums_to_one(rows: Array) -> bool:
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.min() < 0:
        return False
    return bool(np.allclose(rows.sum(axis=-1), 1.0, atol=_SUM_TOLERANCE))


def _origins(output: str, made_by: Mapping[str, NodeProto]) -> Iterator[NodeProto]:
    """The nodes that compute what others only move about."""
    waiting, known = [output], {output}
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None:
            continue
        if not is_standard(node, *_MOVING):
            yield node
            continue
        inputs = node.input if node.op_type == "Concat" else node.input[:1]
        waiting += [name for name in inputs if name not in known]
        known.update(inputs)
