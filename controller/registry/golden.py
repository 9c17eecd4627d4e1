"""Which rows of the reference a device tests itself with, and how far off it may be."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.datatypes import Array
from agent.inference.golden import Golden, Tolerance
from agent.runtimes.runtime import Tensors
from controller.registry.metrics import predictions
from controller.registry.signature import Signature
from protos.limits import MIB
from protos.manifest import Semantic

GOLDEN_ROWS: Final = 16
MAX_GOLDEN_ROWS: Final = 64  # of a classifier with many classes
GOLDEN_DATA_BYTES: Final = 8 * MIB
CLEAR_MARGIN: Final = 0.02
"""By how much the first class must lead the second: a closer call may fall otherwise elsewhere."""

# Other processors sum in another order. Relative to the value, and to the output's largest value.
_FLOATS: Final = {
    np.dtype(np.float16): Tolerance(absolute=1e-3, relative=1e-2),
    np.dtype(np.float32): Tolerance(absolute=1e-5, relative=1e-3),
    np.dtype(np.float64): Tolerance(absolute=1e-6, relative=1e-4),
}

Rows = NDArray[np.int64]


def choose(signature: Signature, inputs: Tensors, outputs: Tensors, *, row_at_a_time: bool) -> Rows:
    """Row numbers, ascending: spread over the reference, and over the classes if there are any."""
    rows = len(next(iter(inputs.values())))
    limit = _limit(inputs, rows, row_at_a_time=row_at_a_time)
    usable = np.flatnonzero(_clear(signature, outputs, rows))
    if not usable.size:
        usable = np.arange(rows)
    classes = predictions(signature, outputs)
    if classes is None:
        return _spread(usable, min(GOLDEN_ROWS, limit))
    return _spread_over(classes, usable, limit)


def golden(signature: Signature, inputs: Tensors, outputs: Tensors) -> Golden:
    """Golden vectors of these rows; ``outputs`` must be what they gave when run as one batch."""
    return Golden(inputs, outputs, tolerances(signature, outputs))


def tolerances(signature: Signature, outputs: Tensors) -> Mapping[str, Tolerance]:
    """Per output: labels, integers and texts exactly, floating point numbers by their precision."""
    return {
        tensor.name: Tolerance()
        if tensor.semantic is Semantic.LABEL
        else tolerance_of(outputs[tensor.name])
        for tensor in signature.outputs
    }


def tolerance_of(output: Array) -> Tolerance:
    """How far another device may be off: nothing, but for floating point numbers."""
    tolerance = _FLOATS.get(output.dtype)
    if tolerance is None:
        return Tolerance()
    finite = np.abs(output[np.isfinite(output)].astype(np.float64))
    scale = float(finite.max(initial=0.0))
    return Tolerance(tolerance.absolute * scale, tolerance.relative)


def _limit(inputs: Tensors, rows: int, *, row_at_a_time: bool) -> int:
    if row_at_a_time:
        return 1
    row_bytes = sum(_bytes(array) for array in inputs.values()) / rows
    return max(1, min(rows, MAX_GOLDEN_ROWS, int(GOLDEN_DATA_BYTES / max(row_bytes, 1))))


def _bytes(array: Array) -> int:
    if array.dtype.hasobject:
        return sum(len(text) for text in array.ravel())
    return int(array.nbytes)


def _clear(signature: Signature, outputs: Tensors, rows: int) -> NDArray[np.bool_]:
    """Which rows a classifier is sure enough of."""
    probability = signature.first(Semantic.PROBABILITY)
    if probability is None:
        return np.ones(rows, np.bool_)
    shares = np.sort(outputs[probability.name].reshape(rows, -1).astype(np.float64), axis=1)
    single = shares.shape[1] == 1
    lead = np.abs(shares[:, 0] - 0.5) if single else shares[:, -1] - shares[:, -2]
    return np.asarray(lead > CLEAR_MARGIN)


def _spread(rows: Rows, count: int) -> Rows:
    """At most ``count`` of ``rows``, evenly spaced."""
    at = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64))
    return rows[at]


def _spread_over(classes: Array, usable: Rows, limit: int) -> Rows:
    names = sorted({*classes[usable].tolist()})
    count = min(limit, max(GOLDEN_ROWS, len(names)))
    by_class = [usable[classes[usable] == name] for name in names]
    share, extra = divmod(count, len(names))
    chosen = [
        _spread(rows, share + (index < extra))
        for index, rows in enumerate(by_class)
        if share + (index < extra)
    ]
    return np.sort(np.concatenate(chosen))
