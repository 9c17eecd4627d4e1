"""What a device allows is what graphs have, and nothing else."""

from typing import Final

import numpy as np
import onnx
import pytest
from onnx import defs

from controller.train_step.options import TrainOptions
from controller.train_step.rules.table import RULES
from protos.train_step import (
    FROZEN_OPERATORS,
    OPERATORS,
    TRAINING_OPERATORS,
    Loss,
    Optimizer,
)
from tests.controller.train_step.networks import Arrays, built, cnn, mlp, network, normal

VECTOR: Final = "float[N,6]"
IMAGE: Final = "float[N,2,6,6]"
SMALL: Arrays = {
    "w": normal(6, 6),
    "v": normal(6),
    "two": np.asarray(2.0, np.float32),
    "three": np.asarray(3.0, np.float32),
    "low": np.asarray(-0.5, np.float32),
    "at": np.array([1]),
    "ends": np.array([5]),
    "twos": np.array([2]),
    "picked": np.array([0, 2, 2]),
    "sizes": np.array([1, 6, 1]),
    "parts": np.array([2, 4]),
    "pads": np.array([0, 1, 0, 1]),
    "flat": np.array([-1, 36]),
    "kernels": normal(2, 2, 3, 3),
    "grouped": normal(4, 1, 3, 3),
    "points": normal(2, 2, 1, 1),
    "up": normal(2, 2, 4, 4),
}

# Each follows ``h``, which is trained; together they have every rule, and every way that a rule goes.
VECTORS: Final = (
    "y = Add(h, v)",
    "y = Sub(h, v)",
    "y = Sum(h, v, h)",
    "y = Div(h, two)",
    "y = Pow(h, two)",
    "y = Pow(h, three)",
    "y = Max(h, v)",
    "y = Min(h, v)",
    "c = Greater(h, v) y = Where(c, h, v)",
    "y = Identity(h)",
    "y = Dropout(h)",
    "d = Cast<to=11>(h) y = CastLike(d, h)",
    "y = Neg(h)",
    "a = Abs(h) s = Add(a, two) l = Log(s) r = Sqrt(s) q = Reciprocal(r) y = Mul(l, q)",
    "e = Exp(h) i = Sin(e) y = Cos(i)",
    "y = Erf(h)",
    "y = LeakyRelu(h)",
    "y = Elu(h)",
    "y = HardSigmoid(h)",
    "y = HardSwish(h)",
    "y = Clip(h, low, two)",
    "y = PRelu(h, v)",
    "y = Tanh(h)",
    "y = Sigmoid(h)",
    "y = Softplus(h)",
    "y = Relu(h)",
    "y = Softmax(h)",
    "y = LogSoftmax(h)",
    "y = LayerNormalization(h, v, v)",
    "y = MatMul(h, w)",
    "u = Unsqueeze(h, at) x2 = Expand(u, sizes) s = ReduceMean(x2, at) y = Squeeze(s, at)",
    "t = Transpose<perm=[1,0]>(h) y = Transpose<perm=[1,0]>(t)",
    "a, b = Split<axis=1>(h, parts) y = Concat<axis=1>(b, b)",
    "y = Slice(h, at, ends, at)",
    "y = Slice(h, at, ends, at, twos)",
    "y = Pad(h, pads)",
    "y = Gather<axis=1>(h, picked)",
    "y = ReduceSum(h, at)",
)
IMAGES: Final = (
    "y = Conv(h, kernels)",
    "y = Conv(h, points)",
    "y = Conv<group=2>(h, grouped)",
    "y = Conv<strides=[2,2]>(h, kernels)",
    "y = ConvTranspose<strides=[2,2]>(h, up)",
    "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)",
    "y = MaxPool<kernel_shape=[2,2], strides=[3,3]>(h)",
    "y = MaxPool<kernel_shape=[3,3]>(h)",
    "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(h)",
    "p = GlobalAveragePool(h) y = Flatten(p)",
    "f = Flatten(h) y = Reshape(f, sizes4)",
)


def operators(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.ModelProto.FromString(graph).graph.node}


def of(body: str, given: str, first: str) -> bytes:
    text = f"g ({given} x) => (float[N] y) {{ h = {first} {body} }}"
    weights = {**SMALL, "sizes4": np.array([-1, 2, 6, 6])}
    model = onnx.ModelProto.FromString(network(text, weights))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def emitted() -> dict[str, set[str]]:
    """The operators of a train step for each of the bodies, losses and optimizers."""
    options = TrainOptions(loss=Loss.MSE)
    bodies = [(one, VECTOR, "MatMul(x, w)") for one in VECTORS]
    bodies += [(one, IMAGE, "Conv(x, points)") for one in IMAGES]
    found = {one[0]: operators(built(of(*one), options)[1].graph) for one in bodies}
    gelu = network("g (float[N,6] x) => (float[N,6] y) { h = Gemm(x, w) y = Gelu(h) }", SMALL, 20)
    found["gelu"] = operators(built(gelu, options)[1].graph)
    found["cnn"] = operators(built(cnn(), TrainOptions())[1].graph)
    whole = TrainOptions(
        optimizer=Optimizer.MOMENTUM, proximal=True, weight_decay=0.1, clip_norm=1.0
    )
    found["whole"] = operators(built(mlp(), whole)[1].graph)
    for loss in set(Loss) - {Loss.RECONSTRUCTION}:
        for weighted in (True, False):
            step = built(mlp(), TrainOptions(loss=loss, sample_weight=weighted))[1]
            found[f"{loss}, weighted {weighted}"] = operators(step.graph)
    return found


def test_every_rule_is_met(emitted: dict[str, set[str]]) -> None:
    assert set(RULES) - set[str]().union(*emitted.values()) == set()


def test_what_is_emitted_is_allowed_and_nothing_else(emitted: dict[str, set[str]]) -> None:
    assert set[str]().union(*emitted.values()) == TRAINING_OPERATORS


def test_what_may_stand_in_a_frozen_body_has_no_rule() -> None:
    assert FROZEN_OPERATORS & set(RULES) == set()
    assert set() == FROZEN_OPERATORS & TRAINING_OPERATORS


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_no_allowed_operator_holds_a_graph_or_draws_lots(operator: str) -> None:
    schema = defs.get_schema(operator, 20)

    kinds = {attribute.type for attribute in schema.attributes.values()}
    assert kinds.isdisjoint({defs.OpSchema.AttrType.GRAPH, defs.OpSchema.AttrType.GRAPHS})
    assert "seed" not in schema.attributes or operator == "Dropout"
