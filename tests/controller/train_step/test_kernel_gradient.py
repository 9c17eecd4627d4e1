"""All forms of a convolution's gradient by its kernels are one function."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from controller.train_step.emitter import Emitter
from controller.train_step.execution import run_once
from controller.train_step.rules import kernel_gradient
from controller.train_step.rules.geometry import Geometry
from tests.controller.train_step.networks import RUNTIME, normal


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    axes = draw(st.integers(1, 2))

    def some(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    kernel, strides, dilations = some(1, 3), some(1, 3), some(1, 2)
    begin, end = some(0, 2), some(0, 2)
    reach = [dilation * (length - 1) for dilation, length in zip(dilations, kernel, strict=True)]
    size = [one + more for one, more in zip(reach, some(1, 6), strict=True)]
    out = [
        (length + first + last - span - 1) // step + 1
        for length, first, last, span, step in zip(size, begin, end, reach, strides, strict=True)
    ]
    return Geometry(size, out, kernel, strides, dilations, begin, end, groups=1)


def computed(e: Emitter, result: str, x: NDArray[Any], gradient: NDArray[Any]) -> NDArray[Any]:
    e.op("Identity", result, out="result")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in (("x", x), ("gradient", gradient))
    ]
    output = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    graph = helper.make_graph(e.nodes, "kernels", inputs, [output], e.tensors())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return run_once(RUNTIME, model, [{"x": x, "gradient": gradient}], ["result"])[0]["result"]


@pytest.mark.parametrize("dense", ["_dense", "_dense_of_few", "_dense_by_lines"])
@settings(max_examples=20, deadline=None)
@given(shape=geometries())
def test_a_product_over_windows_is_a_convolution_with_the_gradient(
    dense: str, shape: Geometry
) -> None:
    channels, filters = 2, 3
    x, gradient = normal(4, channels, *shape.size), normal(4, filters, *shape.out, seed=1)
    first, second = Emitter([]), Emitter([])

    of_windows = getattr(kernel_gradient, dense)
    windows = of_windows(first, "x", "gradient", shape, channels, filters)
    convolution = kernel_gradient._grouped(second, "x", "gradient", shape, channels)

    np.testing.assert_allclose(
        computed(first, windows, x, gradient),
        computed(second, convolution, x, gradient),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(("side", "operator"), [(8, "Gemm"), (64, "Conv")])
def test_large_windows_are_not_laid_side_by_side(side: int, operator: str) -> None:
    size = [side, side]
    shape = Geometry(size, size, [3, 3], [1, 1], [1, 1], [1, 1], [1, 1], groups=1)
    e = Emitter([])

    kernel_gradient.kernel_gradient(e, "x", "gradient", shape, channels=4, filters=4)

    found = {node.op_type for node in e.nodes}
    assert found & {"Gemm", "Conv"} == {operator}
