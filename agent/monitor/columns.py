"""From rows of a tensor to a column for each series. The same code at registration and on devices."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.datatypes import DATATYPES
from agent.monitor.reference import Source, Take

Rows = NDArray[Any]
Columns = NDArray[np.floating[Any]]

IMAGE_STATISTICS: Final = ("mean", "std", "laplacian", "gradient", "dark", "bright")
MAX_PIXELS: Final = 256
"""Images of more values have no series of their own for each pixel."""


def is_text(source: Source) -> bool:
    """Whether the tensor's elements are strings."""
    return bool(DATATYPES[source.dtype].numpy.hasobject)


def has_pixels(source: Source) -> bool:
    """Whether an image has a series for each of its pixels."""
    return source.parts > len(IMAGE_STATISTICS)


def precision(source: Source) -> np.dtype[Any]:
    """The dtype that a source's columns have: float32 for what is at most that, else float64."""
    kind = DATATYPES[source.dtype].numpy
    small = kind.kind == "f" and kind.itemsize <= 4
    return np.dtype(np.float32 if small or source.take is Take.IMAGE else np.float64)


def thinned(source: Source, rows: Rows) -> Rows:
    """Every ``stride``-th pixel of images [n, *axes]; other rows as they are."""
    step = source.stride
    if step == 1:
        return rows
    return rows[:, :, ::step, ::step] if source.axes == "CHW" else rows[:, ::step, ::step]


def columns(source: Source, rows: Rows) -> Columns:
    """Float columns [n, parts] of thinned ``rows`` [n, *shape] that are not texts."""
    if source.take is Take.IMAGE:
        return _image(source, rows)
    flat: Columns = rows.reshape(len(rows), -1).astype(precision(source), copy=False)
    return _top(flat, source.parts) if source.take is Take.TOP else flat


def texts(rows: Rows) -> Sequence[Sequence[object]]:
    """The elements of text ``rows``, one list for each series."""
    flat = rows.reshape(len(rows), -1)
    return [flat[:, part].tolist() for part in range(flat.shape[1])]


def _top(probabilities: Columns, parts: int) -> Columns:
    # A row with a NaN has no highest class.
    highest: Columns = probabilities.max(axis=1)
    if parts == 1:
        return np.stack([highest], axis=1)
    which = probabilities.argmax(axis=1).astype(probabilities.dtype)
    which[np.isnan(highest)] = np.nan
    return np.stack([highest, which], axis=1)


def _image(source: Source, rows: Rows) -> Columns:
    pixels = rows.astype(np.float32, copy=False)
    if source.axes == "HWC":
        grey = pixels.mean(axis=3)
    elif source.axes == "CHW":
        grey = pixels.mean(axis=1)
    else:
        grey = pixels
    with np.errstate(invalid="ignore", over="ignore"):
        statistics = _statistics(grey, source.dark, source.bright)
    if not has_pixels(source):
        return statistics
    return np.concatenate([statistics, pixels.reshape(len(rows), -1)], axis=1)


def _statistics(grey: NDArray[np.float32], dark: float, bright: float) -> Columns:
    """Brightness, contrast, two measures of sharpness, and the shares that are dark and saturated.

    ``laplacian`` is the variance of the Laplacian (Pertuz et al., Pattern Recognition 46, 2013:
    LAPV), ``gradient`` the mean squared difference of neighbours.
    """
    n, height, width = grey.shape
    flat = grey.reshape(n, -1)
    out = np.zeros((n, len(IMAGE_STATISTICS)), np.float32)
    out[:, 0] = flat.mean(axis=1)
    out[:, 1] = np.sqrt(np.square(flat - out[:, :1]).mean(axis=1))
    if height > 2 and width > 2:
        inner = grey[:, 1:-1, 1:-1]
        around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        out[:, 2] = (around - 4 * inner).reshape(n, -1).var(axis=1)
    if height > 1:
        out[:, 3] += np.square(np.diff(grey, axis=1)).reshape(n, -1).mean(axis=1)
    if width > 1:
        out[:, 3] += np.square(np.diff(grey, axis=2)).reshape(n, -1).mean(axis=1)
    out[:, 4] = (flat <= dark).mean(axis=1)
    out[:, 5] = (flat >= bright).mean(axis=1)
    broken = np.isnan(out[:, 0])
    out[broken, 4:] = np.nan
    return out
