import numpy as np
import onnx
import pytest
from onnx import helper

from controller.train_step.build import build_train_step, canonical, with_parameters
from controller.train_step.check import check_train_step
from controller.train_step.options import TrainOptions
from controller.train_step.shapes import probe
from protos.documents import sha256
from protos.train_step import (
    LOSS,
    METADATA_KEY,
    OUTPUT,
    TARGET,
    Loss,
    Optimizer,
    Parameter,
    read_spec,
)
from tests.controller.train_step.networks import (
    RUNTIME,
    Arrays,
    answers,
    built,
    cnn,
    gradients,
    mlp,
    network,
    next_parameters,
    normal,
    own_parameters,
    stepped,
    transformer,
)


def graph_of(graph: bytes) -> onnx.GraphProto:
    return onnx.ModelProto.FromString(graph).graph


def test_the_description_stands_in_the_graph_and_names_the_model() -> None:
    model, step = built(mlp(), TrainOptions(proximal=True, clip_norm=2.0, weight_decay=0.5))

    properties = {
        one.key: one.value for one in onnx.ModelProto.FromString(step.graph).metadata_props
    }
    assert read_spec(properties[METADATA_KEY]) == step.spec
    assert step.spec.model_sha256 == sha256(model)
    assert step.spec.parameters == (
        Parameter("a_weight", (6, 5)),
        Parameter("a_bias", (5,)),
        Parameter("b_weight", (5, 3)),
        Parameter("b_bias", (3,)),
    )
    assert (step.spec.inputs, step.spec.target_shape) == (("x",), (-1,))
    assert (step.spec.proximal, step.spec.clip_norm, step.spec.weight_decay) == (True, 2.0, 0.5)


def test_its_inputs_and_outputs_are_those_of_the_contract() -> None:
    _, step = built(
        mlp(), TrainOptions(trainable="head", proximal=True, optimizer=Optimizer.MOMENTUM)
    )
    graph = graph_of(step.graph)

    assert [one.name for one in graph.input] == [
        "b_weight",
        "b_bias",
        "train/anchor/b_weight",
        "train/momentum/b_weight",
        "train/anchor/b_bias",
        "train/momentum/b_bias",
        "x",
        "train/target",
        "train/sample_weight",
        "train/learning_rate",
        "train/momentum",
        "train/proximal",
    ]
    assert [one.name for one in graph.output] == [
        "train/next_momentum/b_weight",
        "train/next/b_weight",
        "train/next_momentum/b_bias",
        "train/next/b_bias",
        "train/loss",
        "train/output",
    ]


@pytest.mark.parametrize("model", [mlp(), cnn(), transformer()])
def test_the_same_model_and_options_give_the_same_bytes(model: bytes) -> None:
    made, step = built(model, TrainOptions())

    assert build_train_step(made, TrainOptions(), RUNTIME) == step


def test_old_runtimes_can_read_it() -> None:
    _, step = built(mlp(), TrainOptions())
    model = onnx.ModelProto.FromString(step.graph)

    assert model.ir_version == 8
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]


def test_a_trained_weight_is_an_input_and_no_part_of_the_file() -> None:
    _, whole = built(mlp(), TrainOptions())
    _, head = built(mlp(), TrainOptions(trainable="head"))

    names = {"a_weight", "a_bias", "b_weight", "b_bias"}
    assert names & {one.name for one in graph_of(whole.graph).initializer} == set()
    assert names & {one.name for one in graph_of(head.graph).initializer} == {"a_weight", "a_bias"}


def test_no_gradient_is_computed_of_what_is_frozen() -> None:
    _, step = built(cnn(), TrainOptions(trainable="head"))

    operators = [node.op_type for node in graph_of(step.graph).node]
    assert operators.count("Conv") == 2
    assert {"ConvTranspose", "MaxUnpool", "ReduceSumSquare"}.isdisjoint(operators)


def test_a_value_that_is_used_twice_gets_both_gradients() -> None:
    text = """
        twice (float[N,3] x) => (float[N,3] y) {
            h = MatMul(x, w)
            s = Mul(h, h)
            y = Add(s, h)
        }
    """
    w, x, target = normal(3, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    options = TrainOptions(loss=Loss.MSE, optimizer=Optimizer.MOMENTUM)
    model, step = built(network(text, {"w": w}), options)

    found = gradients(step, stepped(step, own_parameters(model, step), {"x": x, TARGET: target}))

    h = x @ w
    by_h = 2 * (h * h + h - target) / target.size * (2 * h + 1)
    np.testing.assert_allclose(found["w"], x.T @ by_h, rtol=1e-4, atol=1e-6)


def test_what_is_computed_in_double_precision_is_differentiated_in_it() -> None:
    text = """
        wide (float[N,3] x) => (float[N] y) {
            h = MatMul(x, w)
            d = Cast<to=11>(h)
            r = Relu(d)
            s = Softplus(r)
            t = Sqrt(s)
            p = Gather<axis=1>(t, columns)
            m = ReduceMean<keepdims=0>(p, axes)
            y = Cast<to=1>(m)
        }
    """
    weights = {"w": normal(3, 3), "columns": np.array([0, 2, 2]), "axes": np.array([1])}
    options = TrainOptions(loss=Loss.MSE, optimizer=Optimizer.MOMENTUM)
    model, step = built(network(text, weights), options)

    assert check_train_step(model, step, np.random.default_rng(2), RUNTIME).worst_slope < 0.01


def test_a_head_learns_on_a_recurrent_body() -> None:
    """An LSTM has no rule, and needs none in a frozen body."""
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            helper.make_node("LSTM", ["t", "W", "R"], ["", "state"], hidden_size=4),
            helper.make_node("Squeeze", ["state", "first"], ["s"]),
            helper.make_node("Gemm", ["s", "head", "bias"], ["y"]),
        ],
        "lstm",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", "T", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])],
        [
            onnx.numpy_helper.from_array(array, name)
            for name, array in {
                "W": normal(1, 16, 3),
                "R": normal(1, 16, 4),
                "first": np.array([0]),
                "head": normal(4, 2),
                "bias": normal(2),
            }.items()
        ],
    )
    lstm = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = TrainOptions(trainable="head", optimizer=Optimizer.MOMENTUM)
    model, step = built(lstm.SerializeToString(), options)
    x, labels = normal(5, 7, 3, scale=1.0), np.array([0, 1, 1, 0, 1])

    found = stepped(step, own_parameters(model, step), {"x": x, TARGET: labels})

    logits = answers(model, {"x": x})["y"]
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = (likely - np.eye(2)[labels]).mean(axis=0)
    np.testing.assert_allclose(found[OUTPUT], logits, rtol=1e-5)
    np.testing.assert_allclose(gradients(step, found)["bias"], expected, rtol=1e-4, atol=1e-6)


def test_axes_are_told_apart_though_a_reshape_hides_them() -> None:
    text = """
        open (float[N,T,4] x) => (float[N,T,4] y) {
            flat = Reshape(x, rows)
            h = MatMul(flat, w)
            shape = Shape(x)
            y = Reshape(h, shape)
        }
    """
    weights = {"w": normal(4, 4), "rows": np.array([-1, 4])}

    seen = probe(onnx.ModelProto.FromString(network(text, weights)), RUNTIME)

    batch, steps, width = seen.shapes["y"]
    assert width == (4, 4)
    assert batch == (5, 7)
    assert steps == (11, 13)
    assert seen.shapes["flat"][0] == (5 * 11, 7 * 13)
    assert "shape" not in seen.fixed


def test_a_model_learns_what_it_is_shown_and_its_file_takes_it_over() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 6)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)
    model, step = built(mlp(), TrainOptions(optimizer=Optimizer.MOMENTUM, clip_norm=5.0))
    parameters = own_parameters(model, step)
    momenta = {name: np.zeros_like(one) for name, one in parameters.items()}
    losses = []

    for _ in range(60):
        rows = rng.integers(0, 300, 64)
        data: Arrays = {"x": x[rows], TARGET: labels[rows]}
        found = stepped(step, parameters, data, rate=0.3, momentum=0.7, momenta=momenta)
        parameters, momenta = next_parameters(step, found), gradients(step, found)
        losses.append(float(found[LOSS]))

    trained = with_parameters(model, parameters)
    assert losses[-1] < 0.5 < losses[0]
    assert (answers(trained, {"x": x})["logits"].argmax(axis=1) == labels).mean() > 0.85
    assert canonical(trained, RUNTIME) == trained
