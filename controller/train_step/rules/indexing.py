"""Rules for operators that take a part, or put one into more room."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from controller.train_step.site import Gradients, Rule, Site

TO_THE_END: Final = 2**62


def gather(site: Site) -> Gradients:
    """Gather: an embedding's rows, say."""
    data, indices = site.node.input
    axis = site.attributes.integer("axis", 0) % site.rank(data)
    return [_scattered(site, indices, axis, data, site.rank(indices))]


def slice_(site: Site) -> Gradients:
    """Slice: Pad if its steps are 1, else one axis of any step."""
    x, e = site.input(0), site.emitter
    starts, ends = (site.constant(site.input(index), "bounds") for index in (1, 2))
    axes = site.constant(site.input(3), "axes") if site.input(3) else list(range(len(starts)))
    steps = site.constant(site.input(4), "steps") if site.input(4) else [1] * len(starts)
    rank = site.rank(x)
    before, behind = [0] * rank, [0] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = site.length(x, axis % rank)
        first, last, _ = slice(start, end, step).indices(length)
        if step != 1:
            if len(axes) > 1:
                raise site.refusal("steps over several axes have no rule")
            taken = e.integers(np.arange(first, last, step))
            return [_scattered(site, taken, axis % rank, x, 1)]
        before[axis % rank], behind[axis % rank] = first, length - max(first, last)
    return [e.op("Pad", site.gradient, e.integers(before + behind))]


def pad(site: Site) -> Gradients:
    """Pad with a constant."""
    if site.attributes.text("mode", "constant") != "constant" or site.input(3):
        raise site.refusal("only constant padding, of all axes, has a rule")
    rank = site.rank(site.input(0))
    pads = site.constant(site.input(1), "pads")
    axes = [axis for axis in range(rank) if pads[axis] or pads[axis + rank]]
    if not axes:
        return [site.gradient]
    e = site.emitter
    starts = e.integers([pads[axis] for axis in axes])
    ends = e.integers([-pads[axis + rank] if pads[axis + rank] else TO_THE_END for axis in axes])
    return [e.op("Slice", site.gradient, starts, ends, e.integers(axes))]


def _scattered(site: Site, indices: str, axis: int, data: str, index_rank: int) -> str:
    """The adjoint of taking ``indices`` along an axis: their slices added into zeros.

    ScatterND adds along the first axis, so that axis is brought there and back.
    """
    e, rank, gradient = site.emitter, site.rank(data), site.gradient
    front = list(range(axis, axis + index_rank))
    order = [*front, *range(axis), *range(axis + index_rank, rank - 1 + index_rank)]
    if order != sorted(order):
        gradient = e.op("Transpose", gradient, perm=order)
    first = [axis, *[one for one in range(rank) if one != axis]]
    in_place = first == sorted(first)
    zeros = site.zeros_like(data)
    if not in_place:
        zeros = e.op("Transpose", zeros, perm=first)
    at = e.op("Unsqueeze", indices, e.integers([-1]))
    added = e.op("ScatterND", zeros, at, gradient, reduction="add")
    if in_place:
        return added
    return e.op("Transpose", added, perm=[first.index(one) for one in range(rank)])


RULES: Final[Mapping[str, Rule]] = {"Gather": gather, "Slice": slice_, "Pad": pad}
