"""What a coordinator needs to go on, as bytes: JSON for what it is, arrays as they lie in memory.

Numbers and arrays come back to the bit; nothing is unpickled. Layout: the magic, the length of the JSON
(u32, little endian), the JSON, then the arrays behind one another, little endian, in C order.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from controller.federated.coordinator.errors import CheckpointUnreadable

MAGIC: Final = b"muster run 1\n"

State = None | bool | int | float | str | NDArray[Any] | Sequence["State"] | Mapping[str, "State"]
"""What can be kept: of these, nested."""


class _Coded(msgspec.Struct, frozen=True):
    """One value: its kind, and what it is. An array's is where it stands among the arrays."""

    kind: str
    value: Any


class _Array(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]


class _Document(msgspec.Struct, frozen=True):
    state: _Coded
    arrays: tuple[_Array, ...]


KEPT: Final = frozenset("biuf")
"""Kinds of dtype: truth values, whole numbers, floats."""


def keeps(value: object) -> bool:
    """Whether ``value`` is a ``State``."""
    match value:
        case None | bool() | int() | float() | str() | np.generic():
            return not isinstance(value, np.generic) or value.dtype.kind in KEPT
        case np.ndarray():
            return value.dtype.kind in KEPT
        case list() | tuple():
            return all(keeps(one) for one in value)
        case dict():
            return all(isinstance(key, str) and keeps(one) for key, one in value.items())
    return False


def written(state: Mapping[str, State]) -> bytes:
    """The bytes of ``state``; tuples come back as lists."""
    arrays: list[NDArray[Any]] = []
    coded = _coded(state, arrays)
    table = tuple(_Array(one.dtype.str, one.shape) for one in arrays)
    document = msgspec.json.encode(_Document(coded, table))
    length = struct.pack("<I", len(document))
    return b"".join((MAGIC, length, document, *(one.tobytes() for one in arrays)))


def read(data: bytes) -> dict[str, Any]:
    """What ``written`` was given.

    Raises:
        CheckpointUnreadable: it is something else.
    """
    start = len(MAGIC) + 4
    if not data.startswith(MAGIC) or len(data) < start:
        raise CheckpointUnreadable("the checkpoint is not one of this release")
    end = start + struct.unpack("<I", data[len(MAGIC) : start])[0]
    try:
        document = msgspec.json.decode(data[start:end], type=_Document)
        arrays, offset = [], end
        for one in document.arrays:
            count = int(np.prod(one.shape, dtype=np.int64))
            array = np.frombuffer(data, np.dtype(one.dtype), count, offset).reshape(one.shape)
            arrays.append(array.copy())
            offset += array.nbytes
        state = _decoded(document.state, arrays)
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, IndexError) as error:
        raise CheckpointUnreadable(f"the checkpoint is damaged: {error}") from error
    if offset != len(data) or not isinstance(state, dict):
        raise CheckpointUnreadable("the checkpoint is damaged: of another length")
    return state


def _coded(value: object, arrays: list[NDArray[Any]]) -> _Coded:
    match value:
        case None | bool() | str():
            return _Coded("plain", value)
        case np.ndarray() | np.generic():
            array = np.asarray(value)
            arrays.append(array.astype(array.dtype.newbyteorder("<"), order="C"))
            return _Coded("scalar" if isinstance(value, np.generic) else "array", len(arrays) - 1)
        case int():
            return _Coded("whole", str(value))
        case float():
            return _Coded("float", value.hex())
        case dict():
            return _Coded("table", {key: _coded(one, arrays) for key, one in value.items()})
        case list() | tuple():
            return _Coded("list", [_coded(one, arrays) for one in value])
    raise TypeError(f"{type(value).__name__} can't be kept")


def _decoded(coded: _Coded, arrays: Sequence[NDArray[Any]]) -> Any:
    value = coded.value
    match coded.kind:
        case "plain":
            decoded = value
        case "whole":
            decoded = int(value)
        case "float":
            decoded = float.fromhex(value)
        case "array":
            decoded = arrays[value]
        case "scalar":
            decoded = arrays[value][()]
        case "table":
            decoded = {key: _decoded(_again(one), arrays) for key, one in value.items()}
        case "list":
            decoded = [_decoded(_again(one), arrays) for one in value]
        case _:
            raise ValueError(coded.kind)
    return decoded


def _again(value: object) -> _Coded:
    return msgspec.convert(value, _Coded)
