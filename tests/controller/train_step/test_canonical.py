from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from controller.registry.onnx_file import read_onnx
from controller.train_step.build import canonical, parameters_of, with_parameters
from controller.train_step.errors import BadParameters, FixedBatch, NotConvertible
from tests.controller.train_step.networks import (
    RUNTIME,
    answers,
    cnn,
    mlp,
    network,
    normal,
    transformer,
)


def graph_of(model: bytes) -> onnx.GraphProto:
    return onnx.ModelProto.FromString(model).graph


def initializers(model: bytes) -> dict[str, onnx.TensorProto]:
    return {one.name: one for one in graph_of(model).initializer}


@pytest.mark.parametrize("model", [mlp(), cnn(), transformer()])
def test_the_canonical_model_is_its_own_canonical_model(model: bytes) -> None:
    made = canonical(model, RUNTIME)

    assert canonical(made, RUNTIME) == made
    assert canonical(model, RUNTIME) == made


def test_it_answers_as_the_original() -> None:
    x = {"x": normal(4, 2, 8, 8, seed=9)}

    np.testing.assert_array_equal(
        answers(canonical(cnn(), RUNTIME), x)["logits"], answers(cnn(), x)["logits"]
    )


def test_an_old_operator_set_is_lifted() -> None:
    text = """
        old (float[N,4] x) => (float[N] y) {
            h = MatMul(x, w)
            y = ReduceMean<axes=[1], keepdims=0>(h)
        }
    """
    old = network(text, {"w": normal(4, 3)}, opset=11)
    x = {"x": normal(5, 4)}

    made = canonical(old, RUNTIME)

    assert [(one.domain, one.version) for one in onnx.ModelProto.FromString(made).opset_import] == [
        ("", 18)
    ]
    np.testing.assert_allclose(answers(made, x)["y"], answers(old, x)["y"], rtol=1e-6)


def test_the_ir_version_is_the_oldest_that_the_operator_set_allows() -> None:
    text = "g (float[N,2] x) => (float[N,2] y) { y = MatMul(x, w) }"

    made = {
        opset: canonical(network(text, {"w": normal(2, 2)}, opset), RUNTIME) for opset in (15, 21)
    }

    assert onnx.ModelProto.FromString(made[15]).ir_version == 8
    assert onnx.ModelProto.FromString(made[21]).ir_version == 10


def test_the_registry_accepts_it() -> None:
    file = read_onnx(canonical(transformer(), RUNTIME))

    assert file.opset == 18


def test_what_depends_on_constants_alone_is_computed() -> None:
    text = """
        folded (float[N,4] x) => (float[N,3] y) {
            two = Constant<value = float {2.0}>()
            turned = Transpose(w)
            scaled = Mul(turned, two)
            y = MatMul(x, scaled)
        }
    """
    w = normal(3, 4)

    made = canonical(network(text, {"w": w}), RUNTIME)

    assert [node.op_type for node in graph_of(made).node] == ["MatMul"]
    assert list(initializers(made)) == ["scaled"]
    np.testing.assert_array_equal(parameters_of(made, ["scaled"])["scaled"], 2 * w.T)


def test_vectors_that_an_exporter_merged_are_apart_again_and_matrices_stay_shared() -> None:
    text = """
        tied (float[N,4] x) => (float[N,4] y) {
            a = MatMul(x, w)
            b = Add(a, ones)
            c = MatMul(b, w)
            y = Add(c, ones)
        }
    """
    made = canonical(network(text, {"w": normal(4, 4), "ones": np.ones(4, np.float32)}), RUNTIME)

    assert sorted(initializers(made)) == ["ones", "ones__y", "w"]


def test_weights_that_are_listed_as_inputs_are_inputs_no_longer() -> None:
    text = "old (float[N,2] x, float[2,2] w) => (float[N,2] y) { y = MatMul(x, w) }"

    made = canonical(network(text, {"w": normal(2, 2)}), RUNTIME)

    assert [one.name for one in graph_of(made).input] == ["x"]


def test_every_float_is_stored_as_raw_bytes() -> None:
    model = onnx.ModelProto.FromString(mlp())
    tensor = model.graph.initializer[0]
    listed = helper.make_tensor(
        tensor.name, TensorProto.FLOAT, tensor.dims, numpy_helper.to_array(tensor).ravel().tolist()
    )
    assert len(listed.float_data) == 30
    tensor.CopyFrom(listed)

    made = canonical(model.SerializeToString(), RUNTIME)

    assert made == canonical(mlp(), RUNTIME)
    assert all(one.HasField("raw_data") for one in initializers(made).values())


def test_other_parameters_change_their_own_bytes_and_no_others() -> None:
    made = canonical(mlp(), RUNTIME)
    before = parameters_of(made, ["a_weight"])["a_weight"]
    after = normal(6, 5, seed=8)

    changed = with_parameters(made, {"a_weight": after})

    start = made.index(before.tobytes())
    end = start + before.nbytes
    assert changed == made[:start] + after.tobytes() + made[end:]
    np.testing.assert_array_equal(parameters_of(changed, ["a_weight"])["a_weight"], after)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("none", normal(5), "no initializer 'none'"),
        ("a_bias", normal(4), r"'a_bias' is float32 \[4\], not float32 \[5\]"),
        ("a_bias", np.zeros(5), "'a_bias' is float64"),
        ("a_bias", np.full(5, np.nan, np.float32), "'a_bias' has values that are not finite"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]], message: str
) -> None:
    with pytest.raises(BadParameters, match=message):
        with_parameters(mlp(), {name: array})


FIXED = """
    fixed (float[1,2,6] x) => (float[1,3] y) {
        c = Conv<pads=[1,1]>(x, kernels)
        shape = Constant<value = int64[2] {1, 24}>()
        flat = Reshape(c, shape)
        y = MatMul(flat, w)
    }
"""


def test_a_batch_of_one_is_opened() -> None:
    model = network(FIXED, {"kernels": normal(4, 2, 3), "w": normal(24, 3)})
    x = normal(3, 2, 6)

    together = answers(canonical(model, RUNTIME), {"x": x})["y"]

    alone = [answers(model, {"x": x[row : row + 1]})["y"][0] for row in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_a_batch_of_one_that_mixes_rows_is_refused() -> None:
    text = """
        mixing (float[1,4] x) => (float[1,4] y) {
            s = Softmax<axis=0>(x)
            y = MatMul(s, w)
        }
    """
    with pytest.raises(FixedBatch, match="'y' of several rows at once") as caught:
        canonical(network(text, {"w": normal(4, 4)}), RUNTIME)
    assert caught.value.remedy == "Export the model with a dynamic batch axis."


def test_a_batch_of_one_deep_inside_is_refused() -> None:
    text = """
        deep (float[1,4] x) => (float[1,4] y) {
            shape = Constant<value = int64[1] {4}>()
            flat = Reshape(x, shape)
            added = Add(flat, b)
            back = Constant<value = int64[2] {1, 4}>()
            y = Reshape(added, back)
        }
    """
    with pytest.raises(FixedBatch, match="can't be run"):
        canonical(network(text, {"b": normal(4)}), RUNTIME)


def ml_model(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> bytes:
    graph = helper.make_graph(
        nodes, "ml", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])], outputs
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())


def classifier(transform: str, classes: int, labels: Sequence[str] = ()) -> bytes:
    rows = 1 if classes == 2 else classes
    weights = normal(rows, 3, seed=4)
    both = np.concatenate([-weights, weights]) if classes == 2 else weights
    bias = normal(rows, seed=5)
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=both.ravel().tolist(),
        intercepts=(np.concatenate([-bias, bias]) if classes == 2 else bias).tolist(),
        post_transform=transform,
    )
    named = labels or range(10, 10 + classes)
    kind = "classlabels_strings" if labels else "classlabels_ints"
    node.attribute.append(helper.make_attribute(kind, list(named)))
    kind_of_label = TensorProto.STRING if labels else TensorProto.INT64
    label = helper.make_tensor_value_info("label", kind_of_label, ["N"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", classes])
    return ml_model([node], [label, scores])


@pytest.mark.parametrize(
    ("transform", "classes"),
    [("SOFTMAX", 4), ("LOGISTIC", 4), ("LOGISTIC", 2), ("NONE", 3)],
)
def test_a_linear_classifier_becomes_a_matrix_product(transform: str, classes: int) -> None:
    model = classifier(transform, classes)
    x = {"x": normal(20, 3, seed=6, scale=2.0)}

    made = canonical(model, RUNTIME)

    assert {node.domain for node in graph_of(made).node} == {""}
    expected, found = answers(model, x), answers(made, x)
    np.testing.assert_array_equal(found["label"], expected["label"])
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-5, atol=1e-6)


def test_a_linear_regressor_behind_a_scaler_becomes_plain_arithmetic() -> None:
    nodes = [
        helper.make_node(
            "Scaler",
            ["x"],
            ["s"],
            domain="ai.onnx.ml",
            offset=[1.0, 2.0, 3.0],
            scale=[0.5, 1.0, 2.0],
        ),
        helper.make_node(
            "LinearRegressor",
            ["s"],
            ["y"],
            domain="ai.onnx.ml",
            coefficients=[1.0, -1.0, 0.5],
            intercepts=[0.25],
        ),
    ]
    model = ml_model(nodes, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])])
    x = {"x": normal(5, 3)}

    made = canonical(model, RUNTIME)

    assert [node.op_type for node in graph_of(made).node] == ["Sub", "Mul", "Gemm"]
    np.testing.assert_allclose(answers(made, x)["y"], answers(model, x)["y"], rtol=1e-6)


def test_a_classifier_may_answer_with_words() -> None:
    model = classifier("SOFTMAX", 3, ["cat", "dog", "møøse"])
    x = {"x": normal(20, 3, seed=6, scale=2.0)}

    made = canonical(model, RUNTIME)

    assert answers(made, x)["label"].tolist() == answers(model, x)["label"].tolist()
    assert canonical(made, RUNTIME) == made == canonical(model, RUNTIME)


def test_a_classifier_with_another_transform_is_refused() -> None:
    with pytest.raises(NotConvertible, match=r"LinearClassifier\): post_transform PROBIT"):
        canonical(classifier("PROBIT", 3), RUNTIME)
