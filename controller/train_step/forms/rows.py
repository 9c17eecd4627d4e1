"""Depthwise convolutions of larger pictures, as products of rows with narrow matrices.

Rows that a stride takes together are a block. An output's row is made of few blocks, each times a
matrix that does along the row what the kernel does: no windows are laid out, and the matrices are as
small as a row. Forward and back 2 against 7 ms for 64 channels of 16 by 16 with stride 2, 32 pictures.
"""

from collections.abc import Sequence
from math import prod
from typing import Final, NamedTuple

import numpy as np
from onnx import NodeProto

from controller.train_step.emitter import node
from controller.train_step.forms.forward import Forward
from controller.train_step.forms.steps import Steps
from controller.train_step.rules.geometry import Geometry

LONGEST_ROW: Final = 32
LONGEST_OUTPUT: Final = 16
"""Elements of a row; with more, the matrices are mostly zeros, and what is kept with the channels
outermost takes more memory than it saves time."""

FEWEST_POINTS: Final = 65
"""Of a picture: for a smaller one a matrix of all its points is faster."""

MOST_ELEMENTS: Final = 2**20
"""Of the matrices together."""

_OUTSIDE: Final = -(2**40)


class _Block(NamedTuple):
    """A block of rows that an output's row is made of.

    Attributes:
        offset: from the output's row, in blocks.
        lines: of the kernel that fall on it, and on which of its rows.
    """

    offset: int
    lines: Sequence[tuple[int, int]]


def pays_by_rows(forward: Forward, conv: NodeProto, shape: Geometry) -> bool:
    """Whether this is the faster form of a Conv."""
    filters, each = (axis[0] for axis in forward.shapes[conv.input[1]][:2])
    depthwise = shape.groups == filters > 1 == each
    if not depthwise or shape.axes != 2 or shape.size[0] % shape.strides[0] or shape.pointwise:
        return False
    width = shape.size[1]
    elements = filters * len(_blocks(shape)) * shape.strides[0] * width * shape.out[1]
    short = width <= LONGEST_ROW and shape.out[1] <= LONGEST_OUTPUT
    return short and prod(shape.size) >= FEWEST_POINTS and elements <= MOST_ELEMENTS


def multiply_rows(forward: Forward, conv: NodeProto, shape: Geometry) -> None:
    """Makes products of it, and their sum."""
    (x, kernels, *bias), output = conv.input, conv.output[0]
    (height, width), (out_height, out_width) = shape.size, shape.out
    stride, channels, e = shape.strides[0], shape.groups, forward.emitter
    steps, count = Steps(forward, forward.shapes[x][0]), height // stride
    blocks = _blocks(shape)
    found = steps.reshape(x, [-1, channels, height * width])
    lengths = [channels, -1, height * width]
    found = steps.take("Transpose", [found], lengths, perm=[1, 0, 2])
    rows = steps.reshape(found, [channels, -count, stride * width])
    lengths = [channels, -count, len(blocks) * out_width]
    found = steps.take("MatMul", [rows, _matrix(steps, kernels, shape, blocks)], lengths)
    parts = []
    for part, block in zip(_apart(steps, found, lengths, len(blocks)), blocks, strict=True):
        made = steps.reshape(part, [channels, -1, count, out_width])
        parts.append(_in_place(steps, made, block.offset, shape))
    if bias and bias[0]:
        parts.append(steps.reshape(bias[0], [channels, 1, 1, 1]))
    lengths = [channels, -1, out_height, out_width]
    found = steps.take("Sum", parts, lengths) if len(parts) > 1 else parts[0]
    found = steps.reshape(found, [channels, -1, out_height * out_width])
    lengths = [-1, channels, out_height * out_width]
    found = steps.take("Transpose", [found], lengths, perm=[1, 0, 2])
    target = e.integers([-1, channels, out_height, out_width])
    steps.nodes.append(node("Reshape", [found, target], [output]))
    forward.replace([conv], steps.nodes, at=conv)


def _blocks(shape: Geometry) -> list[_Block]:
    """Those that hold more than padding, in their order."""
    lines: dict[int, list[tuple[int, int]]] = {}
    for line in range(shape.kernel[0]):
        offset, row = divmod(line * shape.dilations[0] - shape.begin[0], shape.strides[0])
        lines.setdefault(offset, []).append((line, row))
    count = shape.size[0] // shape.strides[0]
    seen = [offset for offset in sorted(lines) if -shape.out[0] < offset < count]
    return [_Block(offset, lines[offset]) for offset in seen]


def _in_place(steps: Steps, made: str, offset: int, shape: Geometry) -> str:
    """What a block gives, [channels, batch, blocks, width], at the rows of the output to which it does."""
    e, (height, width) = steps.forward.emitter, shape.out
    count = shape.size[0] // shape.strides[0]
    first, last = max(0, offset), min(count, height + offset)
    before = max(0, -offset)
    behind = height - before - (last - first)
    if (first, last) != (0, count):
        where = (e.integers([first]), e.integers([last]), e.integers([2]))
        made = steps.take("Slice", [made, *where], [shape.groups, -1, last - first, width])
    if not before and not behind:
        return made
    pads = e.integers([0, 0, before, 0, 0, 0, behind, 0])
    return steps.take("Pad", [made, pads], [shape.groups, -1, height, width])


def _apart(steps: Steps, found: str, lengths: Sequence[int], count: int) -> list[str]:
    """As many parts of equal length, along the last axis."""
    if count == 1:
        return [found]
    each = lengths[-1] // count
    parts = [steps.named("part", [*lengths[:-1], each]) for _ in range(count)]
    sizes = steps.forward.emitter.integers([each] * count)
    steps.nodes.append(node("Split", [found, sizes], parts, axis=len(lengths) - 1))
    return parts


def _matrix(steps: Steps, kernels: str, shape: Geometry, blocks: Sequence[_Block]) -> str:
    """[channels, rows * width, blocks * width of the output]."""
    channels, taps = shape.groups, prod(shape.kernel)
    inner, outer = shape.strides[0] * shape.size[1], len(blocks) * shape.out[1]
    places = _places(steps, shape, blocks)
    steps.forward.shapes[places] = ((1, 1), (taps, taps), (inner * outer,) * 2)
    weights = steps.reshape(kernels, [1, channels, taps])
    found = steps.take("MatMul", [weights, places], [1, channels, inner * outer])
    return steps.reshape(found, [channels, inner, outer])


def _places(steps: Steps, shape: Geometry, blocks: Sequence[_Block]) -> str:
    """[1, taps, rows * width * blocks * width of the output]: 1 where a tap takes a point to a column.

    The runtime computes it when it loads the graph, of what stands here for lines and for columns.
    """
    e, (lines, taps_across), (_, width), (_, out) = (
        steps.forward.emitter,
        shape.kernel,
        shape.size,
        shape.out,
    )
    down = np.full([lines, 1, len(blocks), 1], _OUTSIDE)
    for number, block in enumerate(blocks):
        for line, row in block.lines:
            down[line, 0, number, 0] = row * width
    columns = np.arange(out) * shape.strides[1] - shape.begin[1]
    across = columns + np.arange(taps_across)[:, None] * shape.dilations[1]
    across = np.where((across >= 0) & (across < width), across, _OUTSIDE)
    taken, flat, marked, places = (e.name(hint) for hint in ("taken", "taken", "marked", "places"))
    taps, inner = lines * taps_across, shape.strides[0] * width
    steps.nodes += [
        node("Add", [e.integers(down), e.integers(across[None, :, None, :])], [taken]),
        node("Reshape", [taken, e.integers([taps, len(blocks), out])], [flat]),
        node("OneHot", [flat, e.integers([inner]), e.number([0.0, 1.0])], [marked], axis=1),
        node("Reshape", [marked, e.integers([1, taps, -1])], [places]),
    ]
    return places
