"""Where an ONNX file keeps the numbers of its float32 initializers, without parsing the rest.

A walk over the wire format (https://protobuf.dev/programming-guides/encoding): ``ModelProto.graph`` is
field 7, ``GraphProto.initializer`` 5; of a ``TensorProto`` ``data_type`` is 2, ``name`` 8 and
``raw_data`` 9. The file was checked when it was registered; it is not trusted to be whole.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.candidate.errors import NoCandidate

_FLOAT: Final = 1
_GRAPH: Final = 7
_INITIALIZER: Final = 5
_DATA_TYPE, _NAME, _RAW_DATA = 2, 8, 9
_FIXED: Final = {1: 8, 5: 4}

Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Place:
    """``count`` little-endian float32 numbers from byte ``offset`` of the file on."""

    offset: int
    count: int

    def read(self, model: bytes) -> Float32s:
        """The numbers, flat."""
        return np.frombuffer(model, "<f4", self.count, self.offset)


def places(model: bytes, names: Collection[str]) -> Mapping[str, Place]:
    """Where the initializers of these names have their numbers.

    Raises:
        NoCandidate: one is not there, is no float32, or keeps them otherwise than as raw data.
    """
    found: dict[str, Place] = {}
    view = memoryview(model)
    for graph in _fields(view, 0, len(model), _GRAPH):
        for tensor in _fields(view, *graph, _INITIALIZER):
            name, place = _tensor(view, *tensor)
            if name in names and place is not None:
                found[name] = place
    missing = sorted(set(names) - found.keys())
    if missing:
        raise NoCandidate(
            f"the parent's model has no float32 initializer {missing[0]!r} with raw data"
        )
    return found


def _tensor(view: memoryview, at: int, end: int) -> tuple[str, Place | None]:
    name, kind, raw = "", 0, None
    for field, wire, start, stop in _walk(view, at, end):
        if field == _NAME and wire == 2:
            name = bytes(view[start:stop]).decode("utf-8", "replace")
        elif field == _RAW_DATA and wire == 2:
            raw = start, stop
        elif field == _DATA_TYPE and wire == 0:
            kind = _varint(view, start)[0]
    if raw is None or kind != _FLOAT or (raw[1] - raw[0]) % 4:
        return name, None
    return name, Place(raw[0], (raw[1] - raw[0]) // 4)


def _fields(view: memoryview, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the submessages of that field begin and end."""
    for field, wire, start, stop in _walk(view, at, end):
        if field == wanted and wire == 2:
            yield start, stop


def _walk(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number and wire type of each field, and where its value begins and ends."""
    while at < end:
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == 2:
            length, at = _varint(view, at)
            stop = at + length
        elif wire == 0:
            stop = _varint(view, at)[1]
        else:
            stop = at + _FIXED.get(wire, len(view) + 1)
        if stop > end:
            raise NoCandidate("the parent's model file is no ONNX file")
        yield tag >> 3, wire, at, stop
        at = stop


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 64:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NoCandidate("the parent's model file is no ONNX file")
