from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from controller.errors import InvalidInput
from controller.train_step.build import build_train_step, canonical
from controller.train_step.errors import (
    FixedBatch,
    NoGradientRule,
    NoParameters,
    NotConvertible,
    NotFloat32,
    NotTrainable,
    ProbabilityOutput,
    QuantizedBody,
    TrainingBatchNorm,
    TreeEnsemble,
    UnknownOutput,
)
from controller.train_step.options import TrainOptions
from controller.train_step.selection import Trainable
from protos.train_step import Loss
from tests.controller.train_step.networks import RUNTIME, Arrays, built, cnn, mlp, network, normal

MSE = TrainOptions(loss=Loss.MSE)
W: Arrays = {"w": normal(4, 4), "v": normal(4, 3)}


def of(body: str, **weights: NDArray[Any]) -> bytes:
    return network(f"g (float[N,4] x) => (float[N,3] y) {{ {body} }}", {**W, **weights})


def tree() -> bytes:
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        name="forest",
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    graph = helper.make_graph(
        [node],
        "tree",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())


def training_mode() -> bytes:
    model = onnx.ModelProto.FromString(cnn())
    node = next(one for one in model.graph.node if one.op_type == "BatchNormalization")
    node.name = "norm"
    node.attribute.append(helper.make_attribute("training_mode", 1))
    node.output.extend(["running_mean", "running_variance"])
    return bytes(model.SerializeToString())


QUANTIZED = """
    quantized (float[N,4] x) => (float[N,3] y) {
        h = MatMul(x, w)
        q = QuantizeLinear(h, scale, zero)
        d = DequantizeLinear(q, scale, zero)
        y = MatMul(d, v)
    }
"""
SCALES: Arrays = {"scale": np.asarray(0.1, np.float32), "zero": np.asarray(0, np.int8)}


def integer_weights() -> bytes:
    text = """
        integers (float[N,4] x) => (float[N,3] y) {
            w = DequantizeLinear(stored, scale, zero)
            y = MatMul(x, w)
        }
    """
    return network(text, {"stored": np.ones((4, 3), np.int8), **SCALES})


def half() -> bytes:
    text = "half (float16[N,4] x) => (float16[N,3] y) { y = MatMul(x, w) }"
    return network(text, {"w": normal(4, 3).astype(np.float16)})


def half_inside() -> bytes:
    return of("h = MatMul(x, w) s = Cast<to=10>(h) r = Relu(s) t = Cast<to=1>(r) y = MatMul(t, v)")


def double() -> bytes:
    text = """
        double (float[N,4] x) => (float[N,3] y) {
            wide = Cast<to=11>(x)
            h = MatMul(wide, w)
            y = Cast<to=1>(h)
        }
    """
    return network(text, {"w": normal(4, 3).astype(np.float64)})


MISSING_RULE = of("h = MatMul(x, w) s = Selu(h) y = MatMul(s, v)")


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (tree(), MSE, TreeEnsemble, r"node 'forest' \(ai\.onnx\.ml\.TreeEnsembleRegressor\)"),
        (training_mode(), TrainOptions(), TrainingBatchNorm, r"'norm' \(BatchNormalization\)"),
        (network(QUANTIZED, {**W, **SCALES}), MSE, QuantizedBody, r"\(QuantizeLinear\)"),
        (integer_weights(), MSE, QuantizedBody, r"\(DequantizeLinear\) computes with integers"),
        (half(), TrainOptions(loss=Loss.MSE, output="y"), NotFloat32, "'w' is FLOAT16"),
        (half_inside(), MSE, NotFloat32, r"node 'r' \(Relu\) computes in FLOAT16"),
        (double(), MSE, NotFloat32, "'w' is DOUBLE"),
        (of("y = Softmax(x)"), MSE, NoParameters, "no trainable parameters"),
        (MISSING_RULE, MSE, NoGradientRule, r"no gradient rule for node 's' \(Selu\), which 'h'"),
        (of("y = MatMul(x, v)"), TrainOptions(output="z"), UnknownOutput, "computes no 'z'"),
    ],
)
def test_what_can_not_be_trained_is_refused_by_name(
    model: bytes, options: TrainOptions, error: type[NotTrainable], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        built(model, options)

    assert isinstance(caught.value, InvalidInput)
    assert caught.value.remedy.endswith(".")
    assert caught.value.code != NotTrainable.code


def test_the_float_head_of_a_quantized_body_is_trained() -> None:
    _, step = built(
        network(QUANTIZED, {**W, **SCALES}), TrainOptions(loss=Loss.MSE, trainable="head")
    )

    assert [one.name for one in step.spec.parameters] == ["v"]


def test_a_frozen_body_may_have_operators_without_a_rule() -> None:
    _, step = built(MISSING_RULE, TrainOptions(loss=Loss.MSE, trainable="head"))

    operators = [node.op_type for node in onnx.ModelProto.FromString(step.graph).graph.node]
    assert "Selu" in operators


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        (
            "h = MatMul(x, w) u = RandomUniformLike(h) s = Add(h, u) y = MatMul(s, v)",
            "RandomUniformLike",
        ),
        ("o = Optional(x) h = OptionalGetElement(o) y = MatMul(h, v)", "Optional"),
    ],
)
def test_no_frozen_body_may_draw_lots_or_leave_tensors(body: str, operator: str) -> None:
    with pytest.raises(NoGradientRule, match=rf"\({operator}\) may not stand"):
        built(of(body), TrainOptions(loss=Loss.MSE, trainable="head"))


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_dropout_that_drops_is_refused(trainable: Trainable) -> None:
    body = "h = MatMul(x, w) d = Dropout(h, half, switch) y = MatMul(d, v)"
    options = TrainOptions(loss=Loss.MSE, trainable=trainable)
    half_of = np.asarray(0.5, np.float32)
    with pytest.raises(NoGradientRule, match=r"node 'd' \(Dropout\) drops at random"):
        built(of(body, half=half_of, switch=np.asarray(1, bool)), options)

    built(of(body, half=half_of, switch=np.asarray(0, bool)), options)


def test_a_form_of_an_operator_without_a_rule_is_named() -> None:
    model = of("h = MatMul(x, w) p = Pow(h, e) y = MatMul(p, v)", e=normal(4))
    with pytest.raises(NoGradientRule, match=r"node 'p' \(Pow\): its exponent can't be trained"):
        built(model, TrainOptions(loss=Loss.MSE, trainable=("w", "e")))


PROBABILITIES = "h = MatMul(x, v) p = Sigmoid(h) t = ReduceSum(p, axes) y = Div(p, t)"
AXES = {"axes": np.array([1])}


@pytest.mark.parametrize("loss", [Loss.SOFTMAX_CROSS_ENTROPY, Loss.BCE_WITH_LOGITS])
def test_probabilities_where_logits_belong_are_refused(loss: Loss) -> None:
    with pytest.raises(ProbabilityOutput, match="rows of 'y' sum to 1"):
        built(of(PROBABILITIES, **AXES), TrainOptions(loss=loss))


def test_a_sigmoid_that_is_moved_about_is_refused() -> None:
    text = """
        g (float[N,4] x) => (float[N] y) {
            h = MatMul(x, w)
            p = Sigmoid(h)
            y = Squeeze(p, at)
        }
    """
    model = network(text, {"w": normal(4, 1), "at": np.array([1])})
    with pytest.raises(ProbabilityOutput, match=r"'y' is made of node 'p' \(Sigmoid\)"):
        built(model, TrainOptions(loss=Loss.BCE_WITH_LOGITS, output="y"))

    built(model, TrainOptions(loss=Loss.BCE_WITH_LOGITS, output="h"))


@pytest.mark.parametrize(
    ("body", "loss"),
    [
        ("z = MatMul(x, v) y = Softmax(z)", Loss.SOFTMAX_CROSS_ENTROPY),
        ("z = MatMul(x, v) p = LogSoftmax(z) y = Identity(p)", Loss.SOFTMAX_CROSS_ENTROPY),
        ("z = MatMul(x, v) y = Sigmoid(z)", Loss.BCE_WITH_LOGITS),
        (
            "z = MatMul(x, one) p = Sigmoid(z) n = Sub(unit, p) y = Concat<axis=1>(n, p)",
            Loss.BCE_WITH_LOGITS,
        ),
    ],
)
def test_a_final_softmax_or_sigmoid_is_passed_by(body: str, loss: Loss) -> None:
    model = of(body, one=normal(4, 1), unit=np.ones(1, np.float32))
    _, step = built(model, TrainOptions(loss=loss))

    graph = onnx.ModelProto.FromString(step.graph).graph
    final = next(node for node in graph.node if node.output[0] == "train/output")
    assert list(final.input) == ["z"]


def test_log_likelihood_takes_no_probabilities() -> None:
    with pytest.raises(UnknownOutput, match="takes their logarithms"):
        built(of("z = MatMul(x, v) y = Softmax(z)"), TrainOptions(loss=Loss.NLL))


def test_classes_need_an_output_of_two_axes() -> None:
    text = "g (float[N,2,4] x) => (float[N,2,3] y) { y = MatMul(x, v) }"
    with pytest.raises(UnknownOutput, match="'y' has 3 axes"):
        built(network(text, W), TrainOptions())


def test_a_batch_of_fixed_size_is_refused() -> None:
    text = "g (float[8,4] x) => (float[8,3] y) { y = MatMul(x, v) }"
    with pytest.raises(FixedBatch, match="'y' is of the same shape whatever the batch"):
        built(network(text, W), MSE)


def test_the_model_must_be_canonical() -> None:
    old = network("g (float[N,4] x) => (float[N,3] y) { y = MatMul(x, v) }", W, opset=13)
    with pytest.raises(NotConvertible, match="operator set 13"):
        build_train_step(old, MSE, RUNTIME)


@pytest.mark.parametrize("name", ["train/target", "train/next/v"])
def test_names_of_the_contract_are_not_the_models_to_take(name: str) -> None:
    model = onnx.ModelProto.FromString(of("h = Neg(x) y = MatMul(h, v)"))
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = name
    with pytest.raises(NotConvertible, match=f"'{name}': names that begin with 'train/'"):
        built(model.SerializeToString(), MSE)


def test_a_model_that_can_not_run_is_refused_with_what_the_runtime_says() -> None:
    text = "g (float[N,5] x) => (float[N,3] y) { y = MatMul(x, v) }"
    model = canonical(network(text, W), RUNTIME)

    with pytest.raises(NotConvertible, match="the graph"):
        build_train_step(model, MSE, RUNTIME)


def test_a_parameter_on_which_the_loss_does_not_depend_is_refused() -> None:
    text = """
        g (float[N,4] x) => (float[N,3] y) {
            y = MatMul(x, v)
            n = Shape(w)
        }
    """
    model = onnx.ModelProto.FromString(network(text, {"v": W["v"]}))
    model.graph.initializer.append(numpy_helper.from_array(W["w"], "w"))
    with pytest.raises(NoParameters, match="'w'"):
        built(model.SerializeToString(), TrainOptions(loss=Loss.MSE, trainable=("w",)))


def test_the_default_model_is_not_refused() -> None:
    assert built(mlp(), TrainOptions())[1].spec.parameters
