"""How many protobuf fields a file would become, counted before any of them takes memory.

An empty submessage is two bytes in the file and over a hundred in memory, so a size limit alone does
not bound what parsing costs. This walks the wire format with a schema at hand and builds nothing.
"""

from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_DEPTH: Final = 64  # below protobuf's own 100
_LENGTH_DELIMITED: Final = 2
_MAX_SHIFT: Final = 63


class BadWire(Exception):
    """Not a message, or one that may not be parsed; says why."""


@dataclass(slots=True)
class _Left:
    fields: int
    allowed: int


def count_fields(data: bytes, message: Descriptor, allowed: int) -> int:
    """How many fields ``data`` has as a ``message``, over all levels.

    Raises:
        BadWire: malformed, more than ``allowed`` fields, nested too deeply, or with a string that
            is not UTF-8, which Python's protobuf would hand out as bytes.
    """
    left = _Left(allowed, allowed)
    _walk(memoryview(data), message, left, 0)
    return allowed - left.fields


def _walk(data: memoryview, message: Descriptor, left: _Left, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadWire(f"messages nested more than {MAX_DEPTH} deep")
    fields = message.fields_by_number
    at, end = 0, len(data)
    while at < end:
        left.fields -= 1
        if left.fields < 0:
            raise BadWire(f"more than {left.allowed:,} fields")
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _LENGTH_DELIMITED:
            length, at = _varint(data, at)
            stop = at + length
            if stop > end:
                raise BadWire("cut short")
            field = fields.get(tag >> 3)
            if field is not None:
                _inside(data[at:stop], field, left, depth)
            at = stop
        else:
            at = _scalar_end(data, at, wire)
    if at > end:
        raise BadWire("cut short")


def _inside(data: memoryview, field: FieldDescriptor, left: _Left, depth: int) -> None:
    if field.message_type is not None:
        _walk(data, field.message_type, left, depth + 1)
    elif field.type == FieldDescriptor.TYPE_STRING:
        try:
            str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise BadWire(f"its {field.name} is not UTF-8") from error


def _scalar_end(data: memoryview, at: int, wire: int) -> int:
    match wire:
        case 0:
            return _varint(data, at)[1]
        case 1:
            return at + 8
        case 5:
            return at + 4
        case _:
            raise BadWire("not a protobuf message")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift <= _MAX_SHIFT:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise BadWire("not a protobuf message")
