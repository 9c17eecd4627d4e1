import numpy as np
import onnx
import pytest

from controller.train_step.folding import MAX_FOLDED_ELEMENTS, fold, lift_constants
from tests.controller.train_step.networks import Arrays, network, normal


def folded(body: str, weights: Arrays) -> list[str]:
    """The operators that are left of a body whose result is added to ``x``."""
    text = f"g (float[N,4] x) => (float[N,4] y) {{ {body} y = Add(x, c) }}"
    model = onnx.ModelProto.FromString(network(text, weights))
    lift_constants(model.graph)
    fold(model)
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("c = Transpose(w)", {"w": normal(4, 1)}),
        (
            "s = Shape(w) e = Expand(w, s) a, b = Split<num_outputs=2>(e) c = Mul(a, b)",
            {"w": normal(2, 4)},
        ),
        ("n = NonZero(w) f = Cast<to=1>(n) c = ReduceSum<keepdims=0>(f)", {"w": normal(2, 4)}),
        ("z = Constant<value = float {0.0}>() d = Div(w, z) c = Clip(d, z, z)", {"w": normal(4)}),
        ("s = Constant<value_ints = [1, 4]>() c = ConstantOfShape(s)", {}),
    ],
)
def test_constants_are_computed(body: str, weights: Arrays) -> None:
    assert folded(body, weights) == ["Add"]


HUGE = MAX_FOLDED_ELEMENTS + 4


@pytest.mark.parametrize(
    ("body", "weights", "left"),
    [
        (
            "r = Range(low, high, one) f = Cast<to=1>(r) c = ReduceSum<keepdims=0>(f)",
            {"low": np.array(0), "high": np.array(HUGE), "one": np.array(1)},
            ["Range", "Cast", "ReduceSum", "Add"],
        ),
        (
            "s = Mul(w, w) e = ConstantOfShape(s) c = ReduceMax<keepdims=0>(e)",
            {"w": np.array([HUGE // 4000, 70])},
            ["ConstantOfShape", "ReduceMax", "Add"],
        ),
        (
            "o = Mul(w, v) c = ReduceMax<keepdims=0>(o)",
            {"w": np.zeros((10_000, 1), np.float32), "v": np.zeros((1, 10_000), np.float32)},
            ["Mul", "ReduceMax", "Add"],
        ),
        ("c = RandomUniformLike(w)", {"w": normal(4)}, ["RandomUniformLike", "Add"]),
        ("m = MatMul(w, w) c = Relu(m)", {"w": normal(2, 3)}, ["MatMul", "Relu", "Add"]),
    ],
)
def test_what_is_too_much_or_fails_is_left(body: str, weights: Arrays, left: list[str]) -> None:
    assert folded(body, weights) == left
