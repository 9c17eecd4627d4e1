"""Transpositions along the runtime's fast path."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import prod
from typing import Final

from onnx import NodeProto

from controller.train_step.emitter import Emitter, node
from controller.train_step.shapes import Axis, Shape, varies

SHORT_RUN: Final = 64
"""Elements that stay side by side: with more, both ways are as fast as memory."""


def transposed(
    e: Emitter, source: str, order: Sequence[int], shape: Shape, output: str
) -> list[NodeProto]:
    """Nodes that make ``output`` of a value of this shape, its axes in this order.

    Where two runs of axes change places, the first may as well move inwards as the second outwards.
    The runtime prefers the slow way, outwards: 38 microseconds for 16 k elements in runs of 8, where
    10 are enough. An axis of length 1 between the two leaves it no choice.
    """
    runs = _runs(order, shape)
    place = [sorted(runs).index(run) for run in runs]
    if place in ([1, 0, 2], [0, 2, 1, 3]):
        lengths = [_length(shape[axis] for axis in run) for run in sorted(runs)]
        *lead, outer, inner, last = lengths
        apart = [*(lead or [1]), outer, 1, inner, last]
        target = [_length([shape[axis]]) for axis in order]
        most_open = max(apart.count(-1), target.count(-1))
        if most_open <= 1 and 0 not in target and 0 < last <= SHORT_RUN:
            wide, turned = e.name("apart"), e.name("turned")
            return [
                node("Reshape", [source, e.integers(apart)], [wide]),
                node("Transpose", [wide], [turned], perm=[0, 2, 3, 1, 4]),
                node("Reshape", [turned, e.integers(target)], [output]),
            ]
    return [node("Transpose", [source], [output], perm=list(order))]


def _runs(order: Sequence[int], shape: Shape) -> list[list[int]]:
    """The axes in their new order, those that stay neighbours together; without axes of length 1."""
    axes = [axis for axis in order if shape[axis] != (1, 1)]
    rank = {axis: at for at, axis in enumerate(sorted(axes))}
    numbered = enumerate(axes)
    return [
        [axis for _, axis in run]
        for _, run in groupby(numbered, key=lambda pair: rank[pair[1]] - pair[0])
    ]


def _length(axes: Iterable[Axis]) -> int:
    """Of axes together; -1 if one varies."""
    known = list(axes)
    return -1 if any(map(varies, known)) else prod(axis[0] for axis in known)
