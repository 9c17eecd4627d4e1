"""Rules for sums and means over axes."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from controller.train_step.emitter import Emitter
from controller.train_step.site import Gradients, Rule, Site


def reduction(site: Site) -> Gradients:
    """ReduceSum, ReduceMean, with axes as an input or, before operator set 18, as an attribute."""
    e, x, gradient = site.emitter, site.input(0), site.gradient
    axes = site.constant(site.input(1), "axes") if site.input(1) else None
    if axes is None:
        axes = site.attributes.integers("axes", [])
    if not axes and site.attributes.integer("noop_with_empty_axes", 0):
        return [gradient]
    rank = site.rank(x)
    axes = [axis % rank for axis in (axes or range(rank))]
    if not site.attributes.integer("keepdims", 1):
        gradient = e.op("Unsqueeze", gradient, e.integers(axes))
    if site.node.op_type == "ReduceMean":
        gradient = e.op("Mul", gradient, _share(site, x, axes))
    return [e.op("Expand", gradient, e.op("Shape", x))]


def _share(site: Site, x: str, axes: list[int]) -> str:
    """One over the number of elements that a mean is of."""
    e = site.emitter
    lengths = [site.static(x)[axis] for axis in axes]
    if -1 not in lengths:
        return e.number(1.0 / float(np.prod(lengths)))
    return e.op("Div", _size(e, site.output), _size(e, x))


def _size(e: Emitter, name: str) -> str:
    return e.op("Cast", e.op("Size", name), to=e.precision)


RULES: Final[Mapping[str, Rule]] = {"ReduceSum": reduction, "ReduceMean": reduction}
