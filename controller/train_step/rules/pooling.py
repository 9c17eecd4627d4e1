"""Rules for poolings."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.train_step.rules.convolution import input_gradient
from controller.train_step.rules.geometry import Geometry, geometry
from controller.train_step.site import Gradients, Rule, Site

LARGEST_TILE: Final = 9
"""Elements of a window that are worth comparing one by one."""


def max_pool(site: Site) -> Gradients:
    """MaxPool: to where the maximum is, the first of several."""
    attributes, x = site.attributes, site.input(0)
    if attributes.integer("storage_order", 0):
        raise site.refusal("indices by columns have no rule")
    kernel = attributes.integers("kernel_shape", [])
    strides = attributes.integers("strides", [1] * len(kernel))
    dilations = attributes.integers("dilations", [1] * len(kernel))
    apart = all(
        step > dilation * (length - 1)
        for step, dilation, length in zip(strides, dilations, kernel, strict=True)
    )
    padded = attributes.text("auto_pad", "NOTSET") != "NOTSET" or any(
        attributes.integers("pads", [])
    )
    plain = not padded and not attributes.integer("ceil_mode", 0) and max(dilations) == 1
    known = -1 not in (*site.static(x)[2:], *site.static(site.output)[2:])
    if plain and known and strides == kernel and math.prod(kernel) <= LARGEST_TILE:
        return [_tiled(site, kernel)]
    return [_scattered(site, kernel, strides, apart=apart, plain=plain)]


def _tiled(site: Site, kernel: Sequence[int]) -> str:
    """Of windows side by side: each element is compared with the maximum, in turn.

    What is left of the gradient after all but the last is the last one's. Asking the forward node
    where its maximum was takes it nine times as long.
    """
    e, x, output, rest = site.emitter, site.input(0), site.output, site.gradient
    axes = range(2, site.rank(x))
    ends = [site.length(output, axis) * step for axis, step in zip(axes, kernel, strict=True)]
    where = (e.integers(ends), e.integers(axes), e.integers(kernel))
    parts = []
    for element in list(np.ndindex(*kernel))[:-1]:
        seen = e.op("Slice", x, e.integers(element), *where)
        hit = e.op("Cast", e.op("GreaterOrEqual", seen, output), to=e.precision)
        parts.append(e.op("Mul", rest, hit))
        rest = e.op("Sub", rest, parts[-1])
    tiles = _side_by_side(site, [*parts, rest], kernel)
    spare = [site.length(x, axis) - end for axis, end in zip(axes, ends, strict=True)]
    if not any(spare):
        return tiles
    return e.op("Pad", tiles, e.integers([0] * (2 + len(kernel)) + [0, 0, *spare]))


def _side_by_side(site: Site, parts: Sequence[str], kernel: Sequence[int]) -> str:
    """Puts together what is of each element of the windows, from the last axis to the first."""
    e = site.emitter
    lengths = [site.length(site.output, axis) for axis in range(2, site.rank(site.output))]
    for axis in reversed(range(len(kernel))):
        step = kernel[axis]
        if step == 1:
            continue
        apart = e.integers([0, 0, *lengths[: axis + 1], 1, *lengths[axis + 1 :]])
        apiece = [e.op("Reshape", part, apart) for part in parts]
        lengths[axis] *= step
        shape = e.integers([0, 0, *lengths])
        joined = [
            e.op("Concat", *apiece[first : first + step], axis=3 + axis)
            for first in range(0, len(apiece), step)
        ]
        parts = [e.op("Reshape", one, shape) for one in joined]
    return parts[0]


def _scattered(
    site: Site, kernel: Sequence[int], strides: Sequence[int], *, apart: bool, plain: bool
) -> str:
    """Of any windows: to where the maximum was found, which the forward node is asked for."""
    e, node, x = site.emitter, site.node, site.input(0)
    while len(node.output) < 2:
        node.output.append(e.name("indices"))
    indices = node.output[1]
    if apart and plain:
        taken = (site.gradient, indices, e.op("Shape", x))
        return e.op("MaxUnpool", *taken, kernel_shape=kernel, strides=strides)
    flat = e.integers([-1])
    zeros = e.zeros(e.op("Shape", e.op("Reshape", x, flat)))
    at, gradient = e.op("Reshape", indices, flat), e.op("Reshape", site.gradient, flat)
    reduction = "none" if apart else "add"
    added = e.op("ScatterElements", zeros, at, gradient, axis=0, reduction=reduction)
    return site.reshaped(added, x)


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
