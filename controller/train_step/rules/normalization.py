"""Rules for softmaxes and normalizations."""

from collections.abc import Mapping
from typing import Final

from controller.onnx_graph import described
from controller.train_step.errors import TrainingBatchNorm
from controller.train_step.site import Gradients, Rule, Site

SHORT_ROW: Final = 48
"""Elements: with more, the product of matrices takes longer than it saves."""


def softmax(site: Site) -> Gradients:
    """Softmax."""
    e, y = site.emitter, site.output
    shared = _sums(site, e.op("Mul", site.gradient, y), y, site.attributes.integer("axis", -1))
    return [e.op("Mul", y, e.op("Sub", site.gradient, shared))]


def log_softmax(site: Site) -> Gradients:
    """LogSoftmax."""
    e, y = site.emitter, site.output
    shared = _sums(site, site.gradient, y, site.attributes.integer("axis", -1))
    return [e.op("Sub", site.gradient, e.op("Mul", e.op("Exp", y), shared))]


def _sums(site: Site, value: str, like: str, axis: int) -> str:
    """Of the value along an axis, to be broadcast to ``like``, which has its shape.

    Short rows are multiplied with a matrix of ones, which gives each element its row's sum: what
    broadcasts to short runs takes longer than that.
    """
    e, rank = site.emitter, site.rank(like)
    length = site.static(like)[axis]
    if axis % rank != rank - 1 or not 1 < length <= SHORT_ROW or rank < 2:
        return e.op("ReduceSum", value, e.integers([axis]), keepdims=1)
    ones = e.op("Expand", e.number(1.0), e.integers([length, length]))
    return e.op("MatMul", value, ones)


def batch_normalization(site: Site) -> Gradients:
    """BatchNormalization with frozen statistics; scale and bias are trained.

    That is right for the small and lopsided batches of one device.
    """
    if site.attributes.integer("training_mode", 0):
        raise TrainingBatchNorm(f"{described(site.node)} is in training mode")
    e, g, (x, scale, _, mean, variance) = site.emitter, site.gradient, site.node.input
    rank = site.rank(x)
    column = e.integers([1, -1, *[1] * (rank - 2)])
    axes = e.integers([0, *range(2, rank)])
    epsilon = e.number(site.attributes.number("epsilon", 1e-5))
    inverse = e.op("Reciprocal", e.op("Sqrt", e.op("Add", variance, epsilon)))
    of_x = of_scale = of_bias = None
    if site.needed[0]:
        of_x = e.op("Mul", g, e.op("Reshape", e.op("Mul", scale, inverse), column))
    if site.needed[1]:
        centred = e.op("Sub", x, e.op("Reshape", mean, column))
        of_scale = e.op(
            "Mul", e.op("ReduceSum", e.op("Mul", g, centred), axes, keepdims=0), inverse
        )
    if site.needed[2]:
        of_bias = e.op("ReduceSum", g, axes, keepdims=0)
    return [of_x, of_scale, of_bias]


def layer_normalization(site: Site) -> Gradients:
    """LayerNormalization; the forward node is asked for its mean and its inverse deviation."""
    e, node, g = site.emitter, site.node, site.gradient
    x, scale = node.input[:2]
    while len(node.output) < 3:
        node.output.append(e.name("statistics"))
    mean, inverse = node.output[1], node.output[2]
    rank = site.rank(x)
    first = site.attributes.integer("axis", -1) % rank
    plain = _is_ones(site, scale) and not site.input(2)
    normal = site.output if plain else e.op("Mul", e.op("Sub", x, mean), inverse)
    of_x = of_scale = of_bias = None
    if site.needed[0]:
        scaled = g if plain else e.op("Mul", g, scale)
        level = _means(site, scaled, x, first)
        slant = _means(site, e.op("Mul", scaled, normal), x, first)
        rest = e.op("Sub", e.op("Sub", scaled, level), e.op("Mul", normal, slant))
        of_x = e.op("Mul", inverse, rest)
    if site.needed[1]:
        of_scale = site.unbroadcast(e.op("Mul", g, normal), x, scale)
    if any(site.needed[2:]):
        of_bias = site.unbroadcast(g, x, site.input(2))
    return [of_x, of_scale, of_bias]


def _is_ones(site: Site, name: str) -> bool:
    known = site.emitter.constants.get(name)
    return known is not None and bool((known == 1).all())


def _means(site: Site, value: str, like: str, first: int) -> str:
    """Of the value along the axes from the first on, to be broadcast to ``like``."""
    e, rank = site.emitter, site.rank(like)
    length = site.static(like)[-1]
    if first != rank - 1 or not 1 < length <= SHORT_ROW or rank < 2:
        return e.op("ReduceMean", value, e.integers(range(first, rank)), keepdims=1)
    return e.op("MatMul", value, e.op("Expand", e.number(1 / length), e.integers([length, length])))


RULES: Final[Mapping[str, Rule]] = {
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
}
