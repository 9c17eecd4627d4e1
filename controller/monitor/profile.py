"""Which series a version's tensors give, and which cells they are counted in."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.inference.datatypes import DATATYPES
from agent.monitor.columns import (
    IMAGE_STATISTICS,
    MAX_PIXELS,
    columns,
    is_text,
    precision,
    texts,
    thinned,
)
from agent.monitor.reference import (
    BINS,
    CATEGORIES,
    CELLS,
    MAX_SERIES,
    Kind,
    Series,
    Source,
    Take,
)
from controller.errors import BadReference
from protos.manifest import Semantic, Tensor

Arrays = Mapping[str, NDArray[Any]]
Side = Literal["input", "output"]

MIN_REFERENCE_ROWS: Final = 100
FEW_VALUES: Final = 20
"""A numeric element with no more distinct values than that is counted value by value."""
MARGIN: Final = 0.5
"""A value is far out of range if it is so many of the reference's ranges outside of it."""
IMAGE_SIDE: Final = 128
"""Larger images are thinned to at most so many pixels a side."""
STEPS: Final = 4096
"""The reference's range, in units of a series' integer sums."""
TONE: Final = 0.05
"""Dark and saturated are the lowest and highest so much of an image's range."""

_NO_COUNTS: Final = (0,) * CELLS
_NAMED: Final = {Semantic.CATEGORICAL, Semantic.LABEL}


def watched_tensors(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> list[tuple[Side, Tensor]]:
    """The tensors that are watched: not opaque, of a fixed shape, with one row a prediction."""
    both: list[tuple[Side, Tensor]] = [("input", one) for one in inputs]
    both += [("output", one) for one in outputs]
    batched = any(tensor.shape[:1] == (-1,) for _, tensor in both)
    return [
        (side, tensor)
        for side, tensor in both
        if tensor.semantic is not Semantic.OPAQUE
        and -1 not in tensor.shape[1:]
        and (tensor.shape[:1] == (-1,) or not batched)
    ]


def row_shape(tensor: Tensor) -> tuple[tuple[int, ...], bool]:
    """The shape of one prediction's row, and whether the tensor has a batch axis before it."""
    batched = tensor.shape[:1] in {(-1,), (1,)}
    return (tensor.shape[1:] if batched else tensor.shape), batched


def checked(side: Side, tensor: Tensor, arrays: Arrays, rows: int | None) -> NDArray[Any]:
    """The tensor's reference values [rows, *row].

    Raises:
        BadReference: they are missing, or not what the tensor takes; names the array.
    """
    at = f"reference: {side} {tensor.name!r}"
    if tensor.name not in arrays:
        raise BadReference(f"{at}: there is no array of that name")
    array = arrays[tensor.name]
    kind = DATATYPES[tensor.dtype].numpy
    if kind.hasobject and array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype != kind:
        raise BadReference(f"{at}: it is {array.dtype}, where {tensor.dtype} ({kind}) is due")
    shape, _ = row_shape(tensor)
    if array.shape[1:] != shape or array.ndim == 0:
        raise BadReference(f"{at}: shape {list(array.shape)}, where {['N', *shape]} is due")
    if len(array) < MIN_REFERENCE_ROWS:
        raise BadReference(f"{at}: {len(array)} rows; at least {MIN_REFERENCE_ROWS} are needed")
    if rows is not None and len(array) != rows:
        raise BadReference(f"{at}: {len(array)} rows, where the other arrays have {rows}")
    if kind.kind == "f" and not np.isfinite(array).any():
        raise BadReference(f"{at}: there is not one finite number in it")
    return array


def source_of(side: Side, tensor: Tensor, array: NDArray[Any], *, labelled: bool) -> Source:
    """How the tensor's series are taken. ``labelled``: another output names the class.

    Raises:
        BadReference: an image has one value throughout.
    """
    shape, batched = row_shape(tensor)
    size = math.prod(shape)
    plain = Source(
        tensor=tensor.name,
        side=side,
        semantic=tensor.semantic,
        dtype=tensor.dtype,
        take=Take.ELEMENTS,
        parts=max(1, min(size, MAX_SERIES)),
        shape=shape,
        batched=batched,
    )
    if size > MAX_SERIES and tensor.semantic not in {Semantic.IMAGE, Semantic.PROBABILITY}:
        raise BadReference(
            f"reference: {side} {tensor.name!r}: {size} values a row are more than the "
            f"{MAX_SERIES} series that are watched; declare it opaque, or an image if it is one"
        )
    if is_text(plain) or size < 2:
        return plain
    if tensor.semantic is Semantic.PROBABILITY and side == "output":
        return msgspec.structs.replace(plain, take=Take.TOP, parts=1 if labelled else 2)
    if tensor.semantic is Semantic.IMAGE and len(shape) in {2, 3}:
        return _image(plain, tensor, array)
    return plain


def _image(plain: Source, tensor: Tensor, array: NDArray[Any]) -> Source:
    low, high = value_range(array)
    if low == high:
        raise BadReference(
            f"reference: {plain.side} {tensor.name!r}: every pixel is {low:g}: nothing to compare with"
        )
    shape, channels = plain.shape, {1, 3, 4}
    first = len(shape) == 3 and shape[0] in channels and shape[2] not in channels
    axes: Literal["HW", "HWC", "CHW"] = "HW" if len(shape) == 2 else "CHW" if first else "HWC"
    height, width = shape[1:] if first else shape[:2]
    pixels = math.prod(shape) if math.prod(shape) <= MAX_PIXELS else 0
    return msgspec.structs.replace(
        plain,
        take=Take.IMAGE,
        parts=len(IMAGE_STATISTICS) + pixels,
        axes=axes,
        stride=math.ceil(max(height, width) / IMAGE_SIDE),
        dark=low + TONE * (high - low),
        bright=high - TONE * (high - low),
    )


def value_range(array: NDArray[Any]) -> tuple[float, float]:
    """Least and greatest finite value."""
    values = array.astype(np.float64, copy=False)
    finite = values[np.isfinite(values)]
    return float(finite.min()), float(finite.max())


def series_of(source: Source, array: NDArray[Any]) -> Iterator[Series]:
    """The source's series, with cells from the reference's values and no counts yet.

    Raises:
        BadReference: an element has no finite value; names it.
    """
    if is_text(source):
        named = zip(_names(source), texts(array), strict=True)
        yield from (_text_series(source, name, values) for name, values in named)
        return
    values = columns(source, thinned(source, array))
    span = value_range(array) if source.take is Take.IMAGE else None
    for part, name in enumerate(_names(source)):
        column = values[:, part]
        finite = column[np.isfinite(column)].astype(np.float64)
        if not len(finite):
            raise BadReference(
                f"reference: {source.side} {source.tensor!r}: {name} has no finite value"
            )
        yield _number_series(source, name, part, finite, span)


def _names(source: Source) -> list[str]:
    name = source.tensor
    elements = [f"{name}[{','.join(map(str, at))}]" for at in np.ndindex(*source.shape)]
    if source.take is Take.TOP:
        return [f"{name}.confidence", f"{name}.top"][: source.parts]
    if source.take is Take.IMAGE:
        summary = [f"{name}.{statistic}" for statistic in IMAGE_STATISTICS]
        return [*summary, *elements][: source.parts]
    return elements if len(elements) > 1 else [name]


def _is_summary(source: Source, part: int) -> bool:
    if source.take is Take.IMAGE:
        return part < len(IMAGE_STATISTICS)
    return source.take is Take.TOP or (source.semantic in _NAMED and source.parts == 1)


def _number_series(
    source: Source, name: str, part: int, finite: NDArray[np.float64], span: Any
) -> Series:
    summary = _is_summary(source, part)
    distinct, counts = np.unique(finite, return_counts=True)
    named = source.semantic in _NAMED or (source.take is Take.TOP and part == 1)
    derived = summary and not named
    by_value = named or len(distinct) == 1 or (len(distinct) <= FEW_VALUES and not derived)
    low, high = float(distinct[0]), float(distinct[-1])
    unit = _unit(low, high)
    limits: tuple[float, float] | None = None
    if source.take is Take.IMAGE and not derived:
        limits = span
    elif source.side == "input" and not by_value and not derived:
        limits = low, high
    margin = MARGIN * (limits[1] - limits[0]) if limits else 0.0
    return Series(
        name=name,
        kind=Kind.CATEGORICAL if by_value else Kind.NUMERIC,
        counts=_NO_COUNTS,
        edges=() if by_value else _edges(finite, precision(source)),
        categories=_most_frequent(distinct, counts) if by_value else (),
        centre=round((low + high) / 2 / unit) * unit,
        unit=unit,
        lower=limits[0] - margin if limits else None,
        upper=limits[1] + margin if limits else None,
        summary=summary,
    )


def _text_series(source: Source, name: str, values: Sequence[object]) -> Series:
    known = [one for one in values if isinstance(one, str)]
    if not known:
        raise BadReference(f"reference: {source.side} {source.tensor!r}: {name} has no text")
    distinct, counts = np.unique(np.array(known), return_counts=True)
    top = np.argsort(-counts, kind="stable")[:CATEGORIES]
    return Series(
        name=name,
        kind=Kind.CATEGORICAL,
        counts=_NO_COUNTS,
        categories=tuple(str(distinct[index]) for index in sorted(top)),
        summary=_is_summary(source, 0),
    )


def _most_frequent(distinct: NDArray[np.float64], counts: NDArray[np.intp]) -> tuple[float, ...]:
    top = np.argsort(-counts, kind="stable")[:CATEGORIES]
    return tuple(float(distinct[index]) for index in sorted(top))


def _edges(finite: NDArray[np.float64], dtype: np.dtype[Any]) -> tuple[float, ...]:
    """Quantiles of the reference that are values of it, written as short as their dtype allows."""
    quantiles = np.quantile(finite, np.linspace(0, 1, BINS + 1), method="inverted_cdf")
    return tuple(float(str(dtype.type(edge))) for edge in np.unique(quantiles))


def _unit(low: float, high: float) -> float:
    span = high / 2 - low / 2 or max(abs(high), 1.0) / 2
    return math.ldexp(1.0, max(math.ceil(math.log2(span / STEPS)) + 1, -1000))
