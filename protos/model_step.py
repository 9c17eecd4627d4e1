"""A model file made as its parent plus an int8 step: what a federated run leaves of a new version.

    step = encoded(parent, moves)              # the controller, once
    result = applied(parent, step, most)       # every device that has the parent; the same bytes

The file is the parent's but for ranges of float32 numbers (the data of its initializers), which are
moved as ``protos.int8_step`` says. Both files are named by their SHA-256: whatever goes wrong on the
way ends in an error and never in another model.

Layout, little endian: the magic; SHA-256 of the parent and of the result; the parent's length (u64);
how many ranges (u32); of each its offset (u64), count (u32) and scale (f4); then all int8 values in
that order, as a raw DEFLATE stream (RFC 1951).
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.errors import DocumentError
from protos.int8_step import Int8Step

MAGIC: Final = b"muster step 1\n\x00\x00"
MOST_RANGES: Final = 65_536
PIECE_VALUES: Final = 1 << 20

_HEADER: Final = struct.Struct("<16s32s32sQI")
_RANGE: Final = struct.Struct("<QIf")
_THOROUGH_BYTES: Final = 256 * 1024
_STRATEGIES: Final = (zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)


@dataclass(frozen=True, slots=True)
class Move:
    """A step for the float32 numbers that stand from byte ``offset`` of the file on."""

    offset: int
    step: Int8Step


@dataclass(frozen=True, slots=True)
class Range:
    """``count`` float32 numbers from byte ``offset`` on, and the scale of their step."""

    offset: int
    count: int
    scale: np.float32

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + 4 * self.count


@dataclass(frozen=True, slots=True)
class Header:
    """What a step file says of itself. Digests are lowercase hex; ranges ascend and don't overlap."""

    parent_sha256: str
    result_sha256: str
    length: int
    ranges: tuple[Range, ...]

    @property
    def values(self) -> int:
        """How many numbers it moves."""
        return sum(one.count for one in self.ranges)


def encoded(parent: bytes, moves: Sequence[Move]) -> tuple[bytes, bytes]:
    """The result and the step file that makes it of ``parent``.

    Raises:
        DocumentError: the ranges overlap, or do not lie in the file.
    """
    ordered = sorted(moves, key=lambda one: one.offset)
    ranges = tuple(Range(one.offset, one.step.values.size, one.step.scale) for one in ordered)
    _check(ranges, len(parent))
    values = b"".join(one.step.values.tobytes() for one in ordered)
    result = bytes(_moved(parent, ranges, iter([values])))
    head = _HEADER.pack(
        MAGIC,
        hashlib.sha256(parent).digest(),
        hashlib.sha256(result).digest(),
        len(parent),
        len(ranges),
    )
    table = b"".join(_RANGE.pack(one.offset, one.count, float(one.scale)) for one in ranges)
    return result, head + table + packed(values)


def overhead(ranges: int) -> int:
    """Bytes of a step file with so many ranges, beside its values."""
    return _HEADER.size + ranges * _RANGE.size


def packed(values: bytes) -> bytes:
    """The shortest DEFLATE stream of those that zlib's strategies make.

    Steps have few different values and hardly a repetition: LZMA is a hundredth better, and is not in
    every build of Python.
    """
    found = []
    level = 9 if len(values) <= _THOROUGH_BYTES else 4  # ten times quicker, and hardly longer
    for strategy in _STRATEGIES:
        packing = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
        found.append(packing.compress(values) + packing.flush())
    return min(found, key=len)


def read_header(step: bytes, most: int) -> Header:
    """What the step file says of itself; ``most`` bytes are the longest file that may be made.

    Raises:
        DocumentError: it can't be read, or asks for more; says why.
    """
    if len(step) < _HEADER.size or step[: len(MAGIC)] != MAGIC:
        raise DocumentError("malformed", "model step: not a step file")
    _, parent, result, length, count = _HEADER.unpack_from(step)
    if length > most:
        raise DocumentError("too-large", f"model step: a file of {length} bytes; {most} at most")
    if count > MOST_RANGES or len(step) < overhead(count):
        raise DocumentError("malformed", f"model step: {count} ranges in {len(step)} bytes")
    table = memoryview(step)[_HEADER.size : overhead(count)]
    ranges = tuple(Range(at, size, np.float32(one)) for at, size, one in _RANGE.iter_unpack(table))
    _check(ranges, length)
    return Header(parent.hex(), result.hex(), length, ranges)


def applied(parent: bytes, step: bytes, most: int) -> bytes:
    """The file that ``step`` makes of ``parent``: its SHA-256 is the one that the step names.

    Takes memory for two such files and a piece, whatever the step holds.

    Raises:
        DocumentError: the step can't be read, is for another parent, or leads elsewhere.
    """
    header = read_header(step, most)
    if len(parent) != header.length or hashlib.sha256(parent).hexdigest() != header.parent_sha256:
        raise DocumentError("other-parent", f"model step: it is for {header.parent_sha256}")
    body = step[overhead(len(header.ranges)) :]
    result = bytes(_moved(parent, header.ranges, _unpacked(body, header.values)))
    if hashlib.sha256(result).hexdigest() != header.result_sha256:
        raise DocumentError("mismatch", f"model step: it does not make {header.result_sha256}")
    return result


def _check(ranges: Sequence[Range], length: int) -> None:
    end = 0
    for one in ranges:
        if one.offset < end or one.end > length:
            raise DocumentError("malformed", "model step: its ranges overlap or leave the file")
        if not np.isfinite(one.scale) or one.scale < 0:
            raise DocumentError("malformed", "model step: a scale is not a finite number from 0 on")
        end = one.end


def _unpacked(body: bytes, count: int) -> Iterator[bytes]:
    """The values in pieces; ``count`` bytes in all, and no more is ever unpacked."""
    unpacking = zlib.decompressobj(-15)
    left, data = count, body
    while left:
        try:
            piece = unpacking.decompress(data, min(left, PIECE_VALUES))
        except zlib.error as error:
            raise DocumentError("malformed", "model step: its values can't be unpacked") from error
        if not piece:
            raise DocumentError("malformed", "model step: it ends before its last value")
        data, left = unpacking.unconsumed_tail, left - len(piece)
        yield piece


def _moved(parent: bytes, ranges: Sequence[Range], pieces: Iterator[bytes]) -> bytearray:
    result = bytearray(parent)
    values: NDArray[np.int8] = np.zeros(0, np.int8)
    for one in ranges:
        at, left = one.offset, one.count
        while left:
            if not values.size:
                values = np.frombuffer(next(pieces), np.int8)
            now, values = values[:left], values[left:]
            there = np.frombuffer(result, "<f4", now.size, at)
            with np.errstate(over="ignore", invalid="ignore"):  # of no step that anyone has made
                difference = Int8Step(one.scale, now).difference()
                there[:] = np.add(there, difference, dtype=np.float32)
            at, left = at + 4 * now.size, left - now.size
    return result
