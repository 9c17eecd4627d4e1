import numpy as np
import onnx
import pytest

from controller.train_step.errors import NoParameters
from controller.train_step.selection import LastLayers, Trainable, select
from tests.controller.train_step.networks import cnn, mlp, network, normal, transformer


def selected(model: bytes, trainable: Trainable, output: str = "logits") -> list[str]:
    return select(onnx.ModelProto.FromString(model).graph, trainable, output)


def test_all_are_the_weights_of_layers_in_the_order_of_depth() -> None:
    assert selected(mlp(), "all") == ["a_weight", "a_bias", "b_weight", "b_bias"]


def test_statistics_of_a_normalization_are_no_parameters() -> None:
    assert [name for name in selected(cnn(), "all") if name.startswith("norm")] == [
        "norm_scale",
        "norm_bias",
    ]


def test_constants_of_an_activation_are_no_parameters() -> None:
    found = selected(transformer(), "all")

    assert {"root", "one", "half"}.isdisjoint(found)
    assert {"embedding", "position", "wide_bias", "two_scale"} <= set(found)


def test_the_scaling_of_inputs_is_no_parameter() -> None:
    text = """
        scaled (float[N,3] x) => (float[N,2] logits) {
            c = Sub(x, mean)
            s = Div(c, deviation)
            h = MatMul(s, w)
            logits = Add(h, b)
        }
    """
    weights = {"mean": normal(3), "deviation": normal(3), "w": normal(3, 2), "b": normal(2)}

    assert selected(network(text, weights), "all") == ["w", "b"]


def test_the_bias_of_a_layer_with_one_unit_is_a_parameter_and_a_factor_is_none() -> None:
    text = """
        single (float[N,3] x) => (float[N,1] logits) {
            h = MatMul(x, w)
            s = Add(h, b)
            logits = Mul(s, temperature)
        }
    """
    weights = {"w": normal(3, 1), "b": normal(1), "temperature": normal(1)}

    assert selected(network(text, weights), "all") == ["w", "b"]


@pytest.mark.parametrize(
    ("trainable", "names"),
    [
        ("head", ["b_weight", "b_bias"]),
        (LastLayers(1), ["b_weight", "b_bias"]),
        (LastLayers(2), ["a_weight", "a_bias", "b_weight", "b_bias"]),
        (LastLayers(9), ["a_weight", "a_bias", "b_weight", "b_bias"]),
        (("*bias",), ["a_bias", "b_bias"]),
        (("b_*", "a_bias"), ["a_bias", "b_weight", "b_bias"]),
    ],
)
def test_a_part_is_selected_in_the_order_of_depth(trainable: Trainable, names: list[str]) -> None:
    assert selected(mlp(), trainable) == names


def test_a_normalization_belongs_to_the_layer_before_it() -> None:
    assert selected(cnn(), LastLayers(3)) == [
        "conv_weight",
        "conv_bias",
        "norm_scale",
        "norm_bias",
        "deep_weight",
        "head_weight",
        "head_bias",
    ]
    assert selected(cnn(), LastLayers(2)) == ["deep_weight", "head_weight", "head_bias"]


def test_a_normalization_of_the_inputs_belongs_to_no_layer() -> None:
    text = """
        normalized (float[N,3] x) => (float[N,2] logits) {
            n = BatchNormalization(x, scale, shift, mean, variance)
            logits = MatMul(n, w)
        }
    """
    ones = np.ones(3, np.float32)
    vectors = {"scale": ones, "shift": ones, "mean": ones, "variance": ones}
    model = network(text, {**vectors, "w": normal(3, 2)})

    assert selected(model, "head") == ["w"]
    assert selected(model, "all") == ["scale", "shift", "w"]


def test_a_name_selects_what_no_pattern_does() -> None:
    assert selected(transformer(), ("half",)) == ["half"]
    with pytest.raises(NoParameters, match="no parameter before 'logits' has a name like 'hal\\*'"):
        selected(transformer(), ("hal*",))
    there = ", ".join(selected(transformer(), "all")[:3])
    with pytest.raises(NoParameters, match=f"'heads'; there are: .*{there}"):
        selected(transformer(), ("heads",))


def test_what_the_output_does_not_depend_on_is_not_selected() -> None:
    text = """
        two (float[N,3] x) => (float[N,2] logits, float[N,2] other) {
            logits = MatMul(x, w)
            other = MatMul(x, v)
        }
    """
    model = network(text, {"w": normal(3, 2), "v": normal(3, 2, seed=1)})

    assert selected(model, "all") == ["w"]
    assert selected(model, "all", "other") == ["v"]
    with pytest.raises(NoParameters):
        selected(model, ("v",))


def test_a_shared_weight_is_selected_once() -> None:
    text = "tied (float[N,3] x) => (float[N,3] logits) { h = MatMul(x, w) logits = MatMul(h, w) }"

    assert selected(network(text, {"w": np.eye(3, dtype=np.float32)}), "all") == ["w"]
