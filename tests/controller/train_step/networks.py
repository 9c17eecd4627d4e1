"""Small networks in ONNX's own text form, and how to run what is built of them."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser

from agent.runtimes.onnx import OnnxRuntime
from controller.train_step.build import TrainStep, build_train_step, canonical, parameters_of
from controller.train_step.execution import run_once
from controller.train_step.options import TrainOptions
from protos.train_step import (
    LEARNING_RATE,
    MOMENTUM,
    PROXIMAL,
    SAMPLE_WEIGHT,
    Optimizer,
    anchor_of,
    momentum_of,
    next_momentum_of,
    next_of,
)

Arrays = Mapping[str, NDArray[Any]]
RUNTIME: Final = OnnxRuntime()


def network(text: str, weights: Arrays | None = None, opset: int = 18) -> bytes:
    """A model of a graph in text: ``net (float[N,3] x) => (float[N,2] y) { y = Gemm(x, w) }``."""
    graph = parser.parse_graph(text)
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in (weights or {}).items()
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def normal(*shape: int, seed: int = 0, scale: float = 0.5) -> NDArray[np.float32]:
    """Numbers to fill weights and rows with."""
    drawn = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return (scale * drawn).astype(np.float32)


def mlp() -> bytes:
    """``x`` [N, 6] to the logits of 3 classes, over 5 units."""
    text = """
        mlp (float[N,6] x) => (float[N,3] logits) {
            hidden = Gemm(x, a_weight, a_bias)
            active = Relu(hidden)
            logits = Gemm(active, b_weight, b_bias)
        }
    """
    weights = {
        "a_weight": normal(6, 5),
        "a_bias": normal(5),
        "b_weight": normal(5, 3),
        "b_bias": normal(3),
    }
    return network(text, weights)


def cnn() -> bytes:
    """``x`` [N, 2, 8, 8] to 3 logits: convolution, normalization, pools, depthwise."""
    text = """
        cnn (float[N,2,8,8] x) => (float[N,3] logits) {
            c = Conv<pads=[1,1,1,1]>(x, conv_weight, conv_bias)
            n = BatchNormalization(c, norm_scale, norm_bias, norm_mean, norm_variance)
            r = Relu(n)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
            d = Conv<group=4, pads=[1,1,1,1], strides=[2,2]>(p, deep_weight)
            t = Tanh(d)
            g = GlobalAveragePool(t)
            f = Flatten(g)
            logits = Gemm<transB=1>(f, head_weight, head_bias)
        }
    """
    weights: dict[str, NDArray[Any]] = {
        "conv_weight": normal(4, 2, 3, 3),
        "conv_bias": normal(4),
        "norm_scale": np.abs(normal(4, seed=1)) + 0.5,
        "norm_bias": normal(4, seed=2),
        "norm_mean": normal(4, seed=3),
        "norm_variance": np.abs(normal(4, seed=4)) + 0.5,
        "deep_weight": normal(4, 1, 3, 3),
        "head_weight": normal(3, 4),
        "head_bias": normal(3),
    }
    return network(text, {name: one.astype(np.float32) for name, one in weights.items()})


def transformer() -> bytes:
    """``tokens`` [N, 5] of 11 words to 3 logits: embedding, attention, normalization, Gelu."""
    text = """
        transformer (int64[N,5] tokens) => (float[N,3] logits) {
            e = Gather(embedding, tokens)
            x = Add(e, position)
            u = LayerNormalization<axis=-1>(x, one_scale, one_bias)
            q = MatMul(u, query_weight)
            k = MatMul(u, key_weight)
            v = MatMul(u, value_weight)
            kt = Transpose<perm=[0,2,1]>(k)
            s = MatMul(q, kt)
            a = Softmax<axis=-1>(s)
            m = MatMul(a, v)
            y = Add(x, m)
            w = LayerNormalization<axis=-1>(y, two_scale, two_bias)
            h = MatMul(w, wide_weight)
            b = Add(h, wide_bias)
            d = Div(b, root)
            c = Erf(d)
            one1 = Add(c, one)
            z = Mul(b, one1)
            o = Mul(z, half)
            n = MatMul(o, narrow_weight)
            r = Add(y, n)
            mean = ReduceMean<keepdims=0>(r, axes)
            logits = Gemm(mean, head_weight, head_bias)
        }
    """
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    weights: dict[str, NDArray[Any]] = {
        "embedding": normal(11, 4),
        "position": normal(1, 5, 4),
        "one_scale": ones,
        "one_bias": zeros,
        "two_scale": ones + normal(4, seed=5),
        "two_bias": normal(4, seed=6),
        "query_weight": normal(4, 4, seed=1),
        "key_weight": normal(4, 4, seed=2),
        "value_weight": normal(4, 4, seed=3),
        "wide_weight": normal(4, 8),
        "wide_bias": normal(8),
        "narrow_weight": normal(8, 4),
        "head_weight": normal(4, 3),
        "head_bias": normal(3),
        "root": np.float32(np.sqrt(2)) * np.ones([], np.float32),
        "one": np.ones([], np.float32),
        "half": np.full([], 0.5, np.float32),
        "axes": np.array([1]),
    }
    return network(text, weights)


def built(model: bytes, options: TrainOptions) -> tuple[bytes, TrainStep]:
    """The canonical model and its train step."""
    made = canonical(model, RUNTIME)
    return made, build_train_step(made, options, RUNTIME)


def answers(model: bytes, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Every output of an inference model."""
    parsed = onnx.ModelProto.FromString(model)
    names = [one.name for one in parsed.graph.output]
    return run_once(RUNTIME, parsed, [inputs], names)[0]


def stepped(
    step: TrainStep,
    parameters: Arrays,
    data: Arrays,
    rate: float = 0.1,
    momentum: float = 0.0,
    proximal: float = 0.0,
    **state: Arrays,
) -> dict[str, NDArray[Any]]:
    """All that a step gives; ``momenta`` and ``anchors`` by parameter, else zeros and the parameters.

    Weights of rows are 1 where ``data`` has none.
    """
    feed: dict[str, NDArray[Any]] = {**parameters, **data}
    feed[LEARNING_RATE] = np.array(rate, np.float32)
    if step.spec.sample_weight and SAMPLE_WEIGHT not in feed:
        feed[SAMPLE_WEIGHT] = np.ones(len(next(iter(data.values()))), np.float32)
    if step.spec.optimizer is Optimizer.MOMENTUM:
        feed[MOMENTUM] = np.array(momentum, np.float32)
        momenta = state.get("momenta") or {k: np.zeros_like(v) for k, v in parameters.items()}
        feed |= {momentum_of(name): array for name, array in momenta.items()}
    if step.spec.proximal:
        feed[PROXIMAL] = np.array(proximal, np.float32)
        anchors = state.get("anchors") or parameters
        feed |= {anchor_of(name): array for name, array in anchors.items()}
    parsed = onnx.ModelProto.FromString(step.graph)
    names = [one.name for one in parsed.graph.output]
    return run_once(RUNTIME, parsed, [feed], names)[0]


def own_parameters(model: bytes, step: TrainStep) -> dict[str, NDArray[np.float32]]:
    """The parameters as they stand in the model."""
    return parameters_of(model, [one.name for one in step.spec.parameters])


def next_parameters(step: TrainStep, given: Arrays) -> dict[str, NDArray[Any]]:
    """The parameters after a step."""
    return {one.name: given[next_of(one.name)] for one in step.spec.parameters}


def gradients(step: TrainStep, given: Arrays) -> dict[str, NDArray[Any]]:
    """Of a step with momentum of which nothing was kept."""
    return {one.name: given[next_momentum_of(one.name)] for one in step.spec.parameters}
