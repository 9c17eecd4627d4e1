"""Rules for poolings."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.train_step.rules.convolution import input_gradient
from controller.train_step.rules.geometry import Geometry, geometry
from controller.train_step.site import Gradients, Rule, Site


def max_pool(site: Site) -> Gradients:
    """MaxPool: to where the maximum was found, which the forward node is asked for."""
    e, node, x = site.emitter, site.node, site.input(0)
    attributes = site.attributes
    if attributes.integer("storage_order", 0):
        raise site.refusal("indices by columns have no rule")
    kernel = attributes.integers("kernel_shape", [])
    strides = attributes.integers("strides", [1] * len(kernel))
    dilations = attributes.integers("dilations", [1] * len(kernel))
    while len(node.output) < 2:
        node.output.append(e.name("indices"))
    apart = all(
        step > dilation * (length - 1)
        for step, dilation, length in zip(strides, dilations, kernel, strict=True)
    )
    padded = attributes.text("auto_pad", "NOTSET") != "NOTSET" or any(
        attributes.integers("pads", [])
    )
    plain = not padded and not attributes.integer("ceil_mode", 0) and max(dilations) == 1
    indices = node.output[1]
    if apart and plain:
        taken = (site.gradient, indices, e.op("Shape", x))
        return [e.op("MaxUnpool", *taken, kernel_shape=kernel, strides=strides)]
    flat = e.integers([-1])
    zeros = e.zeros(e.op("Shape", e.op("Reshape", x, flat)))
    at, gradient = e.op("Reshape", indices, flat), e.op("Reshape", site.gradient, flat)
    reduction = "none" if apart else "add"
    added = e.op("ScatterElements", zeros, at, gradient, axis=0, reduction=reduction)
    return [site.reshaped(added, x)]


def average_pool(site: Site) -> Gradients:
    """AveragePool: the adjoint of a depthwise convolution with ones, over how many it is of."""
    e, x, attributes = site.emitter, site.input(0), site.attributes
    if attributes.integer("ceil_mode", 0):
        raise site.refusal("ceil_mode has no rule")
    kernel = attributes.integers("kernel_shape", [])
    channels = site.length(x, 1)
    shape = geometry(site, x, site.output, kernel, groups=channels)
    counted = bool(attributes.integer("count_include_pad", 0))
    counts = np.full(shape.out, np.prod(kernel)) if counted else _counts(shape)
    same = counts.min() == counts.max()
    divisor = e.number(counts.flat[0]) if same else e.number(counts[None, None])
    ones = e.number(np.ones([channels, 1, *kernel]))
    return [
        input_gradient(site, e.op("Div", site.gradient, divisor), ones, shape, (channels, channels))
    ]


def _counts(shape: Geometry) -> NDArray[Any]:
    """How many elements of the input each output is the mean of."""
    along = []
    for axis, length in enumerate(shape.kernel):
        first = np.arange(shape.out[axis]) * shape.strides[axis] - shape.begin[axis]
        seen = first[:, None] + np.arange(length) * shape.dilations[axis]
        along.append(((seen >= 0) & (seen < shape.size[axis])).sum(axis=1))
    counts: NDArray[Any] = np.ones([], np.int64)
    for one in along:
        counts = np.multiply.outer(counts, one)
    return counts


def global_average_pool(site: Site) -> Gradients:
    """GlobalAveragePool."""
    e, x = site.emitter, site.input(0)
    points = [site.length(x, axis) for axis in range(2, site.rank(x))]
    share = e.op("Mul", site.gradient, e.number(1.0 / float(np.prod(points))))
    return [e.op("Expand", share, e.op("Shape", x))]


RULES: Final[Mapping[str, Rule]] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
}
