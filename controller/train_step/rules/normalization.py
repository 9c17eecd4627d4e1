"""Rules for softmaxes and normalizations."""

from collections.abc import Mapping
from typing import Final

from controller.onnx_graph import described
from controller.train_step.errors import TrainingBatchNorm
from controller.train_step.site import Gradients, Rule, Site


def softmax(site: Site) -> Gradients:
    """Softmax."""
    e, y = site.emitter, site.output
    axis = e.integers([site.attributes.integer("axis", -1)])
    shared = e.op("ReduceSum", e.op("Mul", site.gradient, y), axis, keepdims=1)
    return [e.op("Mul", y, e.op("Sub", site.gradient, shared))]


def log_softmax(site: Site) -> Gradients:
    """LogSoftmax."""
    e, y = site.emitter, site.output
    axis = e.integers([site.attributes.integer("axis", -1)])
    shared = e.op("ReduceSum", site.gradient, axis, keepdims=1)
    return [e.op("Sub", site.gradient, e.op("Mul", e.op("Exp", y), shared))]


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
    axes = e.integers(range(first, rank))
    normal = e.op("Mul", e.op("Sub", x, mean), inverse)
    of_x = of_scale = of_bias = None
    if site.needed[0]:
        scaled = e.op("Mul", g, scale)
        level = e.op("ReduceMean", scaled, axes, keepdims=1)
        slant = e.op("ReduceMean", e.op("Mul", scaled, normal), axes, keepdims=1)
        rest = e.op("Sub", e.op("Sub", scaled, level), e.op("Mul", normal, slant))
        of_x = e.op("Mul", inverse, rest)
    if site.needed[1]:
        of_scale = site.unbroadcast(e.op("Mul", g, normal), x, scale)
    if any(site.needed[2:]):
        of_bias = site.unbroadcast(g, x, site.input(2))
    return [of_x, of_scale, of_bias]


RULES: Final[Mapping[str, Rule]] = {
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
}
