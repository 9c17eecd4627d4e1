"""The gradient of a convolution by its kernels, in the form that is fastest for their shape.

Measured against Conv with the output's gradient as its kernel: channels-last windows are a third
faster for depthwise kernels, and Gemm over windows a half faster for dense ones. The windows are its
first operand, for the second one is copied into the order in which it is needed.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from controller.train_step.emitter import Emitter
from controller.train_step.rules.geometry import Geometry

LARGEST_WINDOWS: Final = 2**17
"""Elements of all windows of a row: with more the Gemm gains nothing, and takes ten times the
memory."""
FEW_CHANNELS: Final = 4
LONG_ROW: Final = 12
"""Elements that are copied at a time: with fewer, channels last have longer runs."""


def kernel_gradient(
    e: Emitter, x: str, gradient: str, shape: Geometry, channels: int, filters: int
) -> str:
    """By kernels of shape [filters, channels / groups, *kernel].

    ``x`` is what the kernels move over, [batch, channels, *size]; ``gradient`` that of the loss by
    what they make of it, [batch, filters, *out].
    """
    if shape.pointwise and shape.groups == 1:
        return _pointwise(e, x, gradient, shape)
    if shape.groups == channels > 1:
        return _depthwise(e, x, gradient, shape, channels, filters)
    windows = math.prod(shape.kernel) * math.prod(shape.out) * channels
    if shape.groups == 1 and windows <= LARGEST_WINDOWS:
        dense = _dense
        if channels <= FEW_CHANNELS:
            dense = _dense_of_few
        elif shape.out[-1] >= LONG_ROW and shape.strides[-1] == 1 < shape.axes:
            dense = _dense_by_lines
        return dense(e, x, gradient, shape, channels, filters)
    return _grouped(e, x, gradient, shape, channels)


def _pointwise(e: Emitter, x: str, gradient: str, shape: Geometry) -> str:
    """A product of matrices for each row of the batch, and their sum."""
    flat = e.integers([0, 0, -1])
    points = e.op("Transpose", e.op("Reshape", x, flat), perm=[0, 2, 1])
    products = e.op("MatMul", e.op("Reshape", gradient, flat), points)
    summed = e.op("ReduceSum", products, e.integers([0]), keepdims=0)
    return e.op("Reshape", summed, e.integers([0, 0, *[1] * shape.axes]))


def _depthwise(
    e: Emitter, x: str, gradient: str, shape: Geometry, channels: int, filters: int
) -> str:
    """For each element of the kernel, the sum of gradient times the window that it saw."""
    last = [0, *range(2, 2 + shape.axes), 1]
    windows = _windows(e, e.op("Transpose", x, perm=last), shape, axis=1)
    gradient = e.op("Transpose", gradient, perm=last)
    if filters != channels:  # several filters a channel
        each = e.integers(np.repeat(np.arange(channels), filters // channels))
        windows = [e.op("Gather", one, each, axis=1 + shape.axes) for one in windows]
    axes, second = e.integers(range(1 + shape.axes)), e.integers([1])
    columns = []
    for window in windows:
        summed = e.op("ReduceSum", e.op("Mul", gradient, window), axes, keepdims=0)
        columns.append(e.op("Unsqueeze", summed, second))
    kernels = _joined(e, columns, axis=1)
    return e.op("Reshape", kernels, e.integers([0, 1, *shape.kernel]))


def _dense(e: Emitter, x: str, gradient: str, shape: Geometry, channels: int, filters: int) -> str:
    """All windows side by side, and one Gemm; the channels last."""
    last = [0, *range(2, 2 + shape.axes), 1]
    windows = _windows(e, e.op("Transpose", x, perm=last), shape, axis=1)
    flat = e.op("Reshape", e.op("Transpose", gradient, perm=last), e.integers([-1, filters]))
    columns = _joined(e, windows, axis=1 + shape.axes)
    rows = e.op("Reshape", columns, e.integers([-1, len(windows) * channels]))
    return _kernels(e, e.op("Gemm", rows, flat, transA=1), shape, channels)


def _dense_of_few(
    e: Emitter, x: str, gradient: str, shape: Geometry, channels: int, filters: int
) -> str:
    """The same with the channels first: runs are then as long as the rows of a picture."""
    first = [1, 0, *range(2, 2 + shape.axes)]
    windows = _windows(e, e.op("Transpose", x, perm=first), shape, axis=2)
    rows = e.op("Reshape", _joined(e, windows, axis=0), e.integers([len(windows) * channels, -1]))
    flat = e.op("Reshape", e.op("Transpose", gradient, perm=first), e.integers([filters, -1]))
    return _kernels(e, e.op("Gemm", rows, flat, transB=1), shape, channels)


def _dense_by_lines(
    e: Emitter, x: str, gradient: str, shape: Geometry, channels: int, filters: int
) -> str:
    """Windows along the last axis side by side, and a Gemm for each line of the kernel.

    Each copies whole pictures, less some rows: a third faster than all windows for 14 by 14.
    """
    first, lines = [1, 0, *range(2, 2 + shape.axes)], shape.axes - 1
    padded = _padded(e, e.op("Transpose", x, perm=first), shape, axis=2)
    along = _joined(e, _strided(e, padded, shape, range(lines, shape.axes), axis=2), axis=0)
    flat = e.op("Reshape", e.op("Transpose", gradient, perm=first), e.integers([filters, -1]))
    rows = e.integers([shape.kernel[-1] * channels, -1])
    products = [
        e.op("Gemm", e.op("Reshape", line, rows), flat, transB=1)
        for line in _strided(e, along, shape, range(lines), axis=2)
    ]
    return _kernels(e, _joined(e, products, axis=0), shape, channels)


def _kernels(e: Emitter, product: str, shape: Geometry, channels: int) -> str:
    """[windows * channels, filters] in the order of kernels."""
    windows = math.prod(shape.kernel)
    apart = e.op("Reshape", product, e.integers([windows, channels, -1]))
    kernels = e.op("Transpose", apart, perm=[2, 1, 0])
    return e.op("Reshape", kernels, e.integers([0, channels, *shape.kernel]))


def _windows(e: Emitter, x: str, shape: Geometry, axis: int) -> list[str]:
    """What each element of the kernel saw of ``x``, whose space begins at this axis."""
    return _strided(e, _padded(e, x, shape, axis), shape, range(shape.axes), axis)


def _padded(e: Emitter, x: str, shape: Geometry, axis: int) -> str:
    if not any(shape.pads):
        return x
    before, behind = [0] * axis, [0] * (2 - axis)
    pads = [*before, *shape.begin, *behind, *before, *shape.end, *behind]
    return e.op("Pad", x, e.integers(pads))


def _strided(e: Emitter, padded: str, shape: Geometry, axes: Sequence[int], axis: int) -> list[str]:
    """For each element of the kernel along some axes, the strided part of the input that it sees."""
    where = e.integers([axis + one for one in axes])
    steps = e.integers([shape.strides[one] for one in axes])
    windows = []
    for element in np.ndindex(*(shape.kernel[one] for one in axes)):
        starts = [at * shape.dilations[one] for at, one in zip(element, axes, strict=True)]
        ends = [
            start + (shape.out[one] - 1) * shape.strides[one] + 1
            for start, one in zip(starts, axes, strict=True)
        ]
        windows.append(e.op("Slice", padded, e.integers(starts), e.integers(ends), where, steps))
    return windows


def _grouped(e: Emitter, x: str, gradient: str, shape: Geometry, channels: int) -> str:
    """Conv with the gradient as its kernel: the batch becomes the channels that are summed."""
    space = list(range(2, 2 + shape.axes))
    each = channels // shape.groups
    apart = e.op("Reshape", x, e.integers([0, shape.groups, each, *shape.size]))
    turned = e.op("Transpose", apart, perm=[2, 1, 0, *[axis + 1 for axis in space]])
    rows = e.op("Reshape", turned, e.integers([each, -1, *shape.size]))
    kernels = e.op("Transpose", gradient, perm=[1, 0, *space])
    found = e.op(
        "Conv",
        rows,
        kernels,
        strides=shape.dilations,
        dilations=shape.strides,
        pads=shape.pads,
        group=shape.groups,
    )
    nothing = e.integers([0] * shape.axes)
    cut = e.op("Slice", found, nothing, e.integers(shape.kernel), e.integers(space))
    return e.op("Transpose", cut, perm=[1, 0, *space])


def _joined(e: Emitter, parts: list[str], axis: int) -> str:
    return e.op("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
