"""Golden vectors: inputs, the outputs they gave at registration, and how far a device may be off.

The file is MessagePack of raw tensors: reading it runs nothing, and allocates about its own size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np

from agent.errors import InvalidRequest, MalformedDocument
from agent.inference.datatypes import Array, datatype_of, from_raw, to_raw
from agent.runtimes.runtime import Tensors
from protos.limits import MIB

GOLDEN_BYTES: Final = 64 * MIB
_SCHEMA: Final = 1

Axis = Annotated[int, msgspec.Meta(ge=0)]
Distance = Annotated[float, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may be: ``absolute + relative * |expected|``, as ``numpy.isclose``."""

    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs and expected outputs by name; an output without a tolerance must be equal."""

    inputs: Tensors
    outputs: Tensors
    tolerances: Mapping[str, Tolerance]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How outputs compare with the golden ones.

    Attributes:
        objections: one sentence for each output that is not as it must be, naming it.
        difference: the largest absolute difference of any number; infinite where one is finite
            and the other is not, or shapes differ.
    """

    objections: tuple[str, ...]
    difference: float


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: tuple[Axis, ...]
    data: bytes
    absolute: Distance = 0.0
    relative: Distance = 0.0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    schema: int = _SCHEMA


def encode(golden: Golden) -> bytes:
    """The file's bytes; the same vectors give the same bytes."""
    inputs = tuple(_packed(name, array, Tolerance()) for name, array in golden.inputs.items())
    outputs = tuple(
        _packed(name, array, golden.tolerances.get(name, Tolerance()))
        for name, array in golden.outputs.items()
    )
    return msgspec.msgpack.encode(_File(inputs, outputs))


def decode(data: bytes) -> Golden:
    """The vectors in ``data``.

    Raises:
        MalformedDocument: too large, or not golden vectors; names the tensor.
    """
    if len(data) > GOLDEN_BYTES:
        raise MalformedDocument(
            f"golden vectors of {len(data)} bytes; {GOLDEN_BYTES} bytes at most"
        )
    try:
        file = msgspec.msgpack.decode(data, type=_File)
    except (ValueError, RecursionError) as error:  # msgspec's own, and text that is no UTF-8
        raise MalformedDocument(f"golden vectors: {error}") from error
    if file.schema != _SCHEMA:
        raise MalformedDocument(f"golden vectors of schema {file.schema}; {_SCHEMA} is understood")
    return Golden(
        inputs=_unpacked(file.inputs),
        outputs=_unpacked(file.outputs),
        tolerances={one.name: Tolerance(one.absolute, one.relative) for one in file.outputs},
    )


def _packed(name: str, array: Array, tolerance: Tolerance) -> _Tensor:
    return _Tensor(
        name=name,
        datatype=datatype_of(array.dtype),
        shape=array.shape,
        data=to_raw(array),
        absolute=tolerance.absolute,
        relative=tolerance.relative,
    )


def _unpacked(tensors: tuple[_Tensor, ...]) -> Tensors:
    try:
        found = {one.name: from_raw(one.name, one.datatype, one.shape, one.data) for one in tensors}
    except InvalidRequest as error:
        raise MalformedDocument(f"golden vectors: {error.detail}") from error
    if len(found) != len(tensors):
        raise MalformedDocument("golden vectors: a tensor stands there twice")
    return found


def compare(golden: Golden, outputs: Tensors) -> Comparison:
    """Every objection against ``outputs``; none if all are within their tolerance.

    NaN equals NaN, and infinities of one sign are equal: a version may be made to answer so.
    """
    objections: list[str] = []
    largest = 0.0
    for name, expected in golden.outputs.items():
        given = outputs.get(name)
        if given is None:
            objections.append(f"output {name!r}: missing")
            continue
        if (datatype_of(given.dtype), given.shape) != (datatype_of(expected.dtype), expected.shape):
            objections.append(
                f"output {name!r}: {datatype_of(given.dtype)} {list(given.shape)}; it must be "
                f"{datatype_of(expected.dtype)} {list(expected.shape)}"
            )
            largest = math.inf
            continue
        tolerance = golden.tolerances.get(name, Tolerance())
        wrong, difference = _differences(expected, given, tolerance)
        largest = max(largest, difference)
        if wrong:
            objections.append(
                f"output {name!r}: {wrong} of {expected.size} elements are off, by up to "
                f"{difference:.6g}; {tolerance.absolute:g} + {tolerance.relative:g} * |expected| "
                "is allowed"
            )
    return Comparison(tuple(objections), largest)


def _differences(expected: Array, given: Array, tolerance: Tolerance) -> tuple[int, float]:
    """How many elements are out of tolerance, and the largest absolute difference."""
    if expected.dtype.kind in "OU":
        wrong = int(np.count_nonzero(expected.astype(str) != given.astype(str)))
        return wrong, math.inf if wrong else 0.0
    if expected.dtype.kind in "iub":
        # In Python's own integers, where a difference of 64 bits fits.
        far = [abs(int(a) - int(b)) for a, b in zip(expected.flat, given.flat, strict=True)]
        allowed = [tolerance.absolute + tolerance.relative * abs(int(a)) for a in expected.flat]
        return sum(a > b for a, b in zip(far, allowed, strict=True)), float(max(far, default=0))
    wide, other = expected.astype(np.float64), given.astype(np.float64)
    same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        far_floats = np.where(same, 0.0, np.abs(wide - other))
        allowed_floats = tolerance.absolute + tolerance.relative * np.abs(wide)
    far_floats[np.isnan(far_floats)] = math.inf
    out = ~same & ~(far_floats <= np.where(np.isfinite(wide), allowed_floats, 0.0))
    return int(out.sum()), float(far_floats.max(initial=0.0))
