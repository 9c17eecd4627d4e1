"""The datatypes of the Open Inference Protocol, as numpy, as ONNX, as JSON and as raw bytes.

Nothing is coerced in silence: 1.5 is no INT64, 300 no UINT8, true no number. Two things are given a
meaning: JSON's ``null`` among floating point values is NaN, there and back, because JSON has no
other word for it; and BYTES are UTF-8 text, because ONNX's strings are.
"""

import functools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.errors import InvalidRequest

Array = NDArray[Any]

MAX_RANK: Final = 16
MAX_AXIS: Final = 2**31
"""Longer than any axis of data that fits a request."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype.

    Attributes:
        name: the protocol's: "FP32".
        numpy: ``object`` for BYTES, whose elements are ``str``.
        onnx: onnxruntime's: "tensor(float)".
        contents: the field of ``InferTensorContents`` that carries it; empty if only raw bytes can.
        element: what JSON carries for one element; None if JSON can't (FP16, as in Triton).
    """

    name: str
    numpy: np.dtype[Any]
    onnx: str
    contents: str
    element: Any


def _integer(kind: type[np.integer[Any]]) -> Any:
    """The range as msgspec checks it: bounds of its own end at 63 bits, numpy checks the 64th."""
    limits = np.iinfo(kind)
    high = None if limits.max >= 2**63 - 1 else int(limits.max)
    return Annotated[int, msgspec.Meta(ge=int(limits.min), le=high)]


_FP32_MAX: Final = float(np.finfo(np.float32).max)
_FP32: Final = Annotated[float, msgspec.Meta(ge=-_FP32_MAX, le=_FP32_MAX)] | None

DATATYPES: Final = {
    one.name: one
    for one in (
        Datatype("BOOL", np.dtype(np.bool_), "tensor(bool)", "bool_contents", bool),
        Datatype("UINT8", np.dtype(np.uint8), "tensor(uint8)", "uint_contents", _integer(np.uint8)),
        Datatype(
            "UINT16", np.dtype(np.uint16), "tensor(uint16)", "uint_contents", _integer(np.uint16)
        ),
        Datatype(
            "UINT32", np.dtype(np.uint32), "tensor(uint32)", "uint_contents", _integer(np.uint32)
        ),
        Datatype(
            "UINT64", np.dtype(np.uint64), "tensor(uint64)", "uint64_contents", _integer(np.uint64)
        ),
        Datatype("INT8", np.dtype(np.int8), "tensor(int8)", "int_contents", _integer(np.int8)),
        Datatype("INT16", np.dtype(np.int16), "tensor(int16)", "int_contents", _integer(np.int16)),
        Datatype("INT32", np.dtype(np.int32), "tensor(int32)", "int_contents", _integer(np.int32)),
        Datatype(
            "INT64", np.dtype(np.int64), "tensor(int64)", "int64_contents", _integer(np.int64)
        ),
        Datatype("FP16", np.dtype(np.float16), "tensor(float16)", "", None),
        Datatype("FP32", np.dtype(np.float32), "tensor(float)", "fp32_contents", _FP32),
        Datatype("FP64", np.dtype(np.float64), "tensor(double)", "fp64_contents", float | None),
        Datatype("BYTES", np.dtype(np.object_), "tensor(string)", "bytes_contents", str),
    )
}

BY_ONNX: Final = {one.onnx: one.name for one in DATATYPES.values()}
_BY_NUMPY: Final = {one.numpy: one.name for one in DATATYPES.values()}
_LENGTH: Final = struct.Struct("<I")


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The datatype's name; empty if the protocol has none for it."""
    return _BY_NUMPY.get(dtype, "BYTES" if dtype.kind == "U" else "")


def known(name: str, datatype: str) -> Datatype:
    """The datatype of that name.

    Raises:
        InvalidRequest: there is none; names the input ``name``.
    """
    try:
        return DATATYPES[datatype]
    except KeyError:
        raise InvalidRequest(
            f"input {name!r}: datatype {datatype!r} is none of {', '.join(DATATYPES)}"
        ) from None


# --- Raw bytes ------------------------------------------------------------------------------------


def from_raw(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """The tensor whose elements stand in ``data``, row-major and little-endian; no copy if aligned.

    Raises:
        InvalidRequest: ``data`` does not hold just that; names the input ``name``.
    """
    kind = known(name, datatype)
    elements = _elements(name, shape)
    if kind.numpy.hasobject:
        return _shaped(name, _texts(_from_prefixed(name, data)), shape)
    expected = elements * kind.numpy.itemsize
    if len(data) != expected:
        raise InvalidRequest(
            f"input {name!r}: {len(data)} bytes of data; {datatype} {list(shape)} has {expected}"
        )
    array = np.frombuffer(data, dtype=kind.numpy.newbyteorder("<"))
    if kind.numpy == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise InvalidRequest(f"input {name!r}: a BOOL that is neither 0 nor 1")
    if not array.flags.aligned or not array.dtype.isnative:
        array = array.astype(kind.numpy)
    return _shaped(name, array, shape)


def to_raw(array: Array) -> bytes:
    """The elements, row-major and little-endian; BYTES each behind its length in 4 bytes."""
    if datatype_of(array.dtype) != "BYTES":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [str(text).encode() for text in array.ravel()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def _from_prefixed(name: str, data: bytes | memoryview) -> list[str]:
    view, at = memoryview(data), 0
    texts: list[str] = []
    while at < len(view):
        start = at + _LENGTH.size
        end = start + (_LENGTH.unpack_from(view, at)[0] if start <= len(view) else len(view))
        if end > len(view):
            raise InvalidRequest(f"input {name!r}: element {len(texts)} is longer than the data")
        texts.append(text_of(name, bytes(view[start:end]), len(texts)))
        at = end
    return texts


def text_of(name: str, data: bytes, index: int) -> str:
    """One element of a BYTES tensor.

    Raises:
        InvalidRequest: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {name!r}: element {index} is not UTF-8: {error}") from error


# --- JSON and typed contents ----------------------------------------------------------------------


def from_json(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """The tensor that the JSON list ``data`` spells, flat or nested as ``shape`` says.

    Raises:
        InvalidRequest: it does not spell that; names the input ``name`` and the element.
    """
    kind = known(name, datatype)
    if kind.element is None:
        raise InvalidRequest(f"input {name!r}: {datatype} has no JSON form; send it as binary data")
    _elements(name, shape)
    depth = _depth(bytes(data[:256]))
    if depth not in {1, max(1, len(shape))}:
        raise InvalidRequest(
            f"input {name!r}: data nested {depth} deep; {list(shape)} is flat or {len(shape)} deep"
        )
    try:
        return from_values(name, datatype, shape, _list_decoder(datatype, depth).decode(data))
    except (ValueError, RecursionError) as error:  # msgspec's own, and text that is no UTF-8
        raise InvalidRequest(f"input {name!r}: data: {error}") from error


def from_values(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Array:
    """The tensor of ``values``, which are of the right Python type, flat or nested as ``shape``.

    Raises:
        InvalidRequest: of another shape, or out of the datatype's range; names the input ``name``.
    """
    kind = known(name, datatype)
    _elements(name, shape)
    nested = bool(values) and isinstance(values[0], list)
    try:
        array = _array(kind, values)
    except OverflowError as error:
        raise InvalidRequest(f"input {name!r}: data: out of the range of {datatype}") from error
    except ValueError as error:
        raise InvalidRequest(f"input {name!r}: data: rows of different lengths") from error
    if nested and array.shape != tuple(shape):
        raise InvalidRequest(f"input {name!r}: data of shape {list(array.shape)}, not {shape}")
    return _shaped(name, array, shape)


def to_json(array: Array) -> list[Any]:
    """The elements, flat and row-major, as JSON's own; what is not finite will be ``null``."""
    values: list[Any] = array.ravel().tolist()
    return values


def _array(kind: Datatype, values: Sequence[Any]) -> Array:
    """An array of just these values, or an error of numpy's."""
    if kind.numpy.hasobject:
        return _texts(values)
    if kind.numpy.kind not in "iu" or kind.numpy.itemsize > 2:
        return np.array(values, kind.numpy)
    wide = np.array(values, np.int64)  # numpy 1 would wrap what a narrow type can't hold
    limits = np.iinfo(kind.numpy)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise OverflowError
    return wide.astype(kind.numpy)


def _texts(values: Sequence[Any]) -> Array:
    return np.array(values, dtype=object) if values else np.empty(0, dtype=object)


def _elements(name: str, shape: Sequence[int]) -> int:
    """How many elements a tensor of that shape has.

    Bounded before anything is multiplied: the product of a million axes takes minutes, in which no
    other thread would run.
    """
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"input {name!r}: {len(shape)} axes; {MAX_RANK} at most")
    if any(not 0 <= length <= MAX_AXIS for length in shape):
        raise InvalidRequest(f"input {name!r}: shape: an axis is not from 0 to {MAX_AXIS}")
    return math.prod(shape)


def _shaped(name: str, array: Array, shape: Sequence[int]) -> Array:
    elements = _elements(name, shape)
    if array.size != elements:
        raise InvalidRequest(
            f"input {name!r}: {array.size} elements; shape {list(shape)} has {elements}"
        )
    try:
        return array.reshape(tuple(shape))
    except ValueError as error:
        raise InvalidRequest(f"input {name!r}: shape {list(shape)}: {error}") from error


def _depth(start: bytes) -> int:
    depth = 0
    for byte in start.translate(None, b" \t\r\n"):
        if byte != ord("["):
            break
        depth += 1
    return depth


@functools.cache
def _list_decoder(datatype: str, depth: int) -> msgspec.json.Decoder[list[Any]]:
    """At most one for each datatype and rank: ``depth`` is at most ``MAX_RANK``."""
    kind: Any = DATATYPES[datatype].element
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)
