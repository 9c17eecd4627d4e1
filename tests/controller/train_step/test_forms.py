"""Other forms of the forward pass: faster, and the same gradients."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from controller.train_step.build import TrainOptions, TrainStep, build_train_step, canonical
from controller.train_step.emitter import Emitter
from controller.train_step.execution import run_once
from controller.train_step.forms.table import FORMS, Forms
from controller.train_step.transposition import transposed
from protos.train_step import LOSS, OUTPUT, TARGET, Loss, Optimizer
from tests.controller.train_step import networks
from tests.controller.train_step.networks import (
    RUNTIME,
    cnn,
    gradients,
    network,
    normal,
    own_parameters,
    stepped,
    transformer,
)

PLAIN = Forms()


def attention() -> bytes:
    """``x`` [N, 6, 8] to 3 logits: queries, keys and values in one, of two heads, by Slices."""
    text = """
        attention (float[N,6,8] x) => (float[N,3] logits) {
            u = LayerNormalization<axis=-1>(x, norm_scale, norm_bias)
            h = MatMul(u, wide_weight)
            b = Add(wide_bias, h)
            w = Reshape(b, apart)
            m = Transpose<perm=[2,0,3,1,4]>(w)
            q0 = Slice(m, zero, one, zero)
            k0 = Slice(m, one, two, zero)
            v0 = Slice(m, two, far, zero)
            q = Squeeze(q0, zero)
            k = Squeeze(k0, zero)
            v = Squeeze(v0, zero)
            t = Transpose<perm=[0,1,3,2]>(k)
            s = MatMul(q, t)
            a = Softmax<axis=-1>(s)
            o = MatMul(a, v)
            p = Transpose<perm=[0,2,1,3]>(o)
            f = Reshape(p, flat)
            logits = Gemm(f, head_weight, head_bias)
        }
    """
    weights: dict[str, NDArray[np.generic]] = {
        "norm_scale": normal(8, seed=1),
        "norm_bias": normal(8, seed=2),
        "wide_weight": normal(8, 24),
        "wide_bias": normal(24),
        "head_weight": normal(48, 3),
        "head_bias": normal(3),
        "apart": np.array([-1, 6, 3, 2, 4]),
        "flat": np.array([-1, 48]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "far": np.array([2**40]),
    }
    return network(text, weights)


def by_index() -> bytes:
    """The same parts, taken by Gather; the second normalised, and its layer flipped."""
    text = """
        pieces (float[N,2,6] x) => (float[N,3] logits) {
            h = MatMul(x, wide_weight)
            one = Gather<axis=1>(h, second)
            two = Gather<axis=1>(h, first)
            n = LayerNormalization<axis=1>(one, norm_scale, norm_bias)
            a = Gemm<transB=1>(n, one_weight)
            b = Gemm(two, two_weight)
            logits = Add(a, b)
        }
    """
    weights: dict[str, NDArray[np.generic]] = {
        "wide_weight": normal(6, 5),
        "norm_scale": normal(5, seed=1),
        "norm_bias": normal(5, seed=2),
        "one_weight": normal(3, 5),
        "two_weight": normal(5, 3),
        "second": np.array(-1),
        "first": np.array(0),
    }
    return network(text, weights)


MODELS = {"attention": attention, "by index": by_index, "cnn": cnn, "transformer": transformer}


def built(name: str, forms: Forms, optimizer: Optimizer) -> tuple[bytes, TrainStep]:
    made = canonical(MODELS[name](), RUNTIME)
    options = TrainOptions(optimizer=optimizer)
    return made, build_train_step(made, options, RUNTIME, forms=forms)


def rows(model: bytes) -> dict[str, NDArray[np.generic]]:
    value = onnx.ModelProto.FromString(model).graph.input[0]
    shape = [5, *(one.dim_value for one in value.type.tensor_type.shape.dim[1:])]
    integers = value.type.tensor_type.elem_type == TensorProto.INT64
    x = np.arange(np.prod(shape)).reshape(shape) % 11 if integers else normal(*shape)
    return {value.name: x, TARGET: np.array([0, 2, 1, 1, 0])}


def operators(step: TrainStep) -> Mapping[str, int]:
    return Counter(node.op_type for node in onnx.ModelProto.FromString(step.graph).graph.node)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_the_same_in_any_form(name: str) -> None:
    model, plain = built(name, PLAIN, Optimizer.MOMENTUM)
    _, formed = built(name, FORMS, Optimizer.MOMENTUM)
    parameters = own_parameters(model, plain)

    expected = stepped(plain, parameters, rows(model))
    found = stepped(formed, parameters, rows(model))

    np.testing.assert_allclose(found[OUTPUT], expected[OUTPUT], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[LOSS], expected[LOSS], rtol=1e-5)
    for parameter, gradient in gradients(plain, expected).items():
        largest = float(np.abs(gradient).max())
        np.testing.assert_allclose(
            gradients(formed, found)[parameter], gradient, rtol=0, atol=2e-6 * largest
        )


@pytest.mark.parametrize("name", MODELS)
def test_a_plain_step_is_the_gradient_times_the_rate(name: str) -> None:
    model, step = built(name, FORMS, Optimizer.SGD)
    _, slow = built(name, PLAIN, Optimizer.MOMENTUM)
    parameters = own_parameters(model, step)
    slopes = gradients(slow, stepped(slow, parameters, rows(model)))

    given = stepped(step, parameters, rows(model), rate=0.25)

    for parameter, one in parameters.items():
        expected = one - 0.25 * slopes[parameter]
        np.testing.assert_allclose(given[f"train/next/{parameter}"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["attention", "by index"])
def test_parts_are_joined_without_padding(name: str) -> None:
    plain, formed = (operators(built(name, forms, Optimizer.SGD)[1]) for forms in (PLAIN, FORMS))

    assert formed["Split"] == formed["Concat"] == 1
    assert plain["Pad"] + plain["ScatterND"] > 0 == formed["Pad"] + formed["ScatterND"]


def test_biases_and_scales_are_in_the_products() -> None:
    formed, plain = (operators(built("attention", one, Optimizer.SGD)[1]) for one in (FORMS, PLAIN))

    assert plain["MatMul"] > formed["MatMul"]
    assert plain["Sub"] > formed["Sub"]  # the rows are centred once, by the normalization itself


def test_a_frozen_body_keeps_its_form() -> None:
    made = canonical(attention(), RUNTIME)
    head = TrainOptions(trainable="head")

    formed = operators(build_train_step(made, head, RUNTIME))

    assert formed["Slice"] == 3
    assert formed["LayerNormalization"] == 1
    assert formed["Split"] == 0


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[str, dict[str, NDArray[Any]]]:
    """A Conv of small pictures ``x``, and its weights: any groups, strides, dilations and padding."""
    groups, each, channels = draw(
        st.sampled_from([(1, 3, 2), (1, 2, 1), (3, 1, 1), (2, 2, 2), (2, 3, 1)])
    )
    axes = draw(st.integers(1, 2))

    def some(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    kernel, strides, dilations, begin, end = (
        some(1, 3),
        some(1, 3),
        some(1, 2),
        some(0, 2),
        some(0, 2),
    )
    size = [
        (length - 1) * apart + more
        for length, apart, more in zip(kernel, dilations, some(1, 3), strict=True)
    ]
    attributes = f"group={groups},strides={strides},dilations={dilations},pads={begin + end}"
    bias = draw(st.booleans())
    spatial = ",".join(map(str, size))
    text = f"""
        net (float[N,{groups * channels},{spatial}] x) => (float[N,2] y) {{
            c = Conv<{attributes}>(x, kernels{", bias" if bias else ""})
            t = Tanh(c)
            s = ReduceSum<keepdims=0>(t, axes)
            y = Gemm(s, head)
        }}
    """
    weights: dict[str, NDArray[Any]] = {
        "kernels": normal(groups * each, channels, *kernel),
        "head": normal(groups * each, 2),
        "axes": np.arange(2, 2 + axes),
    }
    return text, weights | ({"bias": normal(groups * each)} if bias else {})


def assert_same_gradients(convolution: tuple[str, dict[str, NDArray[Any]]]) -> Mapping[str, int]:
    """The operators of the step in form."""
    made = canonical(network(*convolution), RUNTIME)
    options = TrainOptions(loss=Loss.MSE, optimizer=Optimizer.MOMENTUM)
    plain, formed = (build_train_step(made, options, RUNTIME, forms=one) for one in (PLAIN, FORMS))
    (x,) = onnx.ModelProto.FromString(made).graph.input
    data = {
        "x": normal(5, *(one.dim_value for one in x.type.tensor_type.shape.dim[1:])),
        TARGET: normal(5, 2, seed=1),
    }

    expected, found = (stepped(one, own_parameters(made, one), data) for one in (plain, formed))

    for parameter, gradient in gradients(plain, expected).items():
        np.testing.assert_allclose(
            gradients(formed, found)[parameter], gradient, rtol=1e-4, atol=1e-5
        )
    return operators(formed)


@settings(max_examples=25, deadline=None)
@given(convolution=convolutions())
def test_a_convolution_of_small_pictures_is_a_product(
    convolution: tuple[str, dict[str, NDArray[Any]]],
) -> None:
    assert_same_gradients(convolution)


@pytest.mark.parametrize(
    "attributes",
    [
        "pads=[1,1,1,1]",
        "strides=[2,2],pads=[1,1,1,1]",
        "strides=[2,1],pads=[0,2,1,0]",
        "strides=[4,3],pads=[3,0,0,3]",
        "dilations=[3,2],pads=[3,2,3,2]",
        "strides=[3,1],dilations=[5,1],pads=[12,1,12,1]",
        "",
    ],
)
def test_a_depthwise_convolution_goes_row_by_row(attributes: str) -> None:
    text = f"""
        net (float[N,3,12,10] x) => (float[N,2] y) {{
            d = Conv<{",".join(["group=3", *filter(None, [attributes])])}>(x, kernels, bias)
            t = Tanh(d)
            s = ReduceSum<keepdims=0>(t, axes)
            y = Gemm(s, head)
        }}
    """
    weights = {
        "kernels": normal(3, 1, 3, 3),
        "bias": normal(3),
        "head": normal(3, 2),
        "axes": np.array([2, 3]),
    }

    found = assert_same_gradients((text, weights))

    assert found["Conv"] + found["ConvTranspose"] == 0


def test_a_depthwise_convolution_is_a_product_and_a_large_one_is_not() -> None:
    def convolved(side: int) -> Mapping[str, int]:
        text = f"""
            net (float[N,4,{side},{side}] x) => (float[N,4] y) {{
                c = Conv<group=4, pads=[1,1,1,1]>(x, kernels)
                p = GlobalAveragePool(c)
                y = Flatten(p)
            }}
        """
        made = canonical(network(text, {"kernels": normal(4, 1, 3, 3)}), RUNTIME)
        return operators(build_train_step(made, TrainOptions(loss=Loss.MSE), RUNTIME))

    assert convolved(8)["Conv"] == convolved(16)["Conv"] == 0
    assert convolved(32)["Conv"] > 0


def test_of_several_largest_the_first_gets_the_gradient() -> None:
    text = """
        net (float[N,1,2,4] x) => (float[N,2] y) {
            h = Add(x, table)
            r = Relu(h)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
            y = Flatten(p)
        }
    """
    table = np.array([[[[1, 2, 3, 3], [2, 2, 3, -1]]]], np.float32)
    options = TrainOptions(loss=Loss.MSE, trainable=("table",), optimizer=Optimizer.MOMENTUM)
    _, step = networks.built(network(text, {"table": table}), options)
    x = np.zeros((1, 1, 2, 4), np.float32)

    given = stepped(step, {"table": table}, {"x": x, TARGET: np.array([[0, 1]], np.float32)})

    np.testing.assert_allclose(gradients(step, given)["table"], [[[[0, 2, 2, 0], [0, 0, 0, 0]]]])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_transposition_is_one_in_any_form(data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(data.draw(st.integers(1, 5)))))
    lengths = [data.draw(st.integers(1, 4)) for _ in order]
    opened = data.draw(st.sampled_from([None, *range(len(order))]))
    shape = tuple((one, one + (axis == opened)) for axis, one in enumerate(lengths))
    e, x = Emitter([]), normal(*lengths)

    nodes = transposed(e, "x", order, shape, "y")

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    ends[0] = helper.make_tensor_value_info("x", TensorProto.FLOAT, lengths)
    graph = helper.make_graph(nodes, "moved", ends[:1], ends[1:], e.tensors())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found = run_once(RUNTIME, model, [{"x": x}], ["y"])[0]["y"]
    np.testing.assert_array_equal(found, np.transpose(x, order))
