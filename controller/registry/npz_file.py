"""Reads arrays from an ``.npz`` or ``.npy`` file without running any of it.

The array format is read by its grammar: a header that is not of plain numbers or strings is refused,
so nothing in a file is ever evaluated or unpickled. Every size is checked before memory is taken.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from agent.inference.datatypes import Array
from controller.errors import BadReference, TooLarge
from protos.limits import MIB

REFERENCE_DATA_BYTES: Final = 512 * MIB  # the file, and what comes out of it
MAX_ARRAYS: Final = 64
MAX_RANK: Final = 16

_MAGIC: Final = b"\x93NUMPY"
_MAX_HEADER: Final = 10_000
_HEADER: Final = re.compile(
    r"\{'descr': '([<>|=][A-Za-z][0-9]{1,6})', 'fortran_order': (True|False), "
    r"'shape': \(([0-9, ]*)\),? *\} *\n?"
)
_LAST_POINT: Final = 0x10FFFF  # of Unicode, whose surrogates (0xD800 on) are no characters
_ENTRY: Final = b"PK\x01\x02"  # one for each file in an archive's directory
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
    OverflowError,
)


def read_arrays(data: bytes, file: str) -> Mapping[str, Array]:
    """Every array in an ``.npz`` file by name; that of an ``.npy`` file is called "x".

    Raises:
        TooLarge: the file, or what it unpacks to, is too large.
        BadReference: it is no such file, or an array is not of plain numbers or strings.
    """
    if len(data) > REFERENCE_DATA_BYTES:
        raise TooLarge(f"{file}: {len(data):,} bytes; {REFERENCE_DATA_BYTES:,} at most")
    if data.startswith(_MAGIC):
        return {"x": _array(data, f"{file}: the array")}
    if not data.startswith(b"PK"):
        kind = "a Python pickle: never accepted" if data[:1] == b"\x80" else "something else"
        _refuse(f"{file}: not an .npz file but {kind}; make one with numpy.savez")
    if data.count(_ENTRY) > 4 * MAX_ARRAYS:
        _refuse(f"{file}: more than {MAX_ARRAYS} arrays")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _members(archive, file)
    except _BROKEN as error:
        raise BadReference(f"{file}: a broken .npz file: {error}") from error


def _members(archive: zipfile.ZipFile, file: str) -> Mapping[str, Array]:
    members = archive.infolist()
    if len(members) > MAX_ARRAYS:
        _refuse(f"{file}: {len(members)} arrays; {MAX_ARRAYS} at most")
    unpacked = sum(one.file_size for one in members)
    if unpacked > REFERENCE_DATA_BYTES:
        raise TooLarge(f"{file}: unpacks to {unpacked:,} bytes; {REFERENCE_DATA_BYTES:,} at most")
    found: dict[str, Array] = {}
    for one in members:
        name = one.filename.removesuffix(".npy")
        title = f"{file}: array {name[:80]!r}"
        if not one.filename.endswith(".npy"):
            _refuse(f"{title}: not an array; make the file with numpy.savez")
        if one.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            _refuse(f"{title}: compressed in a way that numpy.savez never uses")
        if name in found:
            _refuse(f"{title}: stands there twice")
        with archive.open(one) as member:
            found[name] = _array(member.read(one.file_size), title)
    return found


def _array(data: bytes, title: str) -> Array:
    """One array of the ``.npy`` format, versions 1 to 3 (numpy's NEP 1)."""
    if not data.startswith(_MAGIC) or len(data) < 10:
        _refuse(f"{title}: not a NumPy array")
    wide = data[6] > 1
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if length > _MAX_HEADER or start + length > len(data):
        _refuse(f"{title}: a broken header")
    header = data[start : start + length].decode("latin-1")
    match = _HEADER.fullmatch(header)
    if match is None:
        _refuse(f"{title}: {_why_no_plain_array(header)}")
    dtype = _dtype(match[1], title)
    shape = tuple(int(one) for one in match[3].split(",") if one.strip())
    body = memoryview(data)[start + length :]
    if len(shape) > MAX_RANK or 0 in shape:
        _refuse(f"{title}: of shape {list(shape)}: no rows, or too many axes")
    if math.prod(shape) * dtype.itemsize != len(body):
        _refuse(f"{title}: {len(body):,} bytes of data do not fill the shape {list(shape)}")
    flat: NDArray[Any] = np.frombuffer(body, dtype)
    array = flat.reshape(shape, order="F" if match[2] == "True" else "C")
    return _native(array, title)


def _why_no_plain_array(header: str) -> str:
    if "'descr': '|O'" in header:
        return (
            "an array of Python objects, which is a pickle: never accepted; save numbers "
            "(.astype(np.float32)) or strings (.astype(str))"
        )
    if "'descr': [" in header:
        return "a structured array; save each of its columns as an array of its own"
    return "a broken header"


def _dtype(code: str, title: str) -> np.dtype[Any]:
    kind, size = code[1], int(code[2:])
    sizes = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}
    if kind in "SU" and size:
        return np.dtype(code)
    if size not in sizes.get(kind, ()):
        _refuse(f"{title}: of dtype {code!r}; numbers and strings are read, nothing else")
    return np.dtype(code)


def _native(array: Array, title: str) -> Array:
    """The array in this machine's byte order; texts as ``str`` objects."""
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8").astype(object)
        except UnicodeDecodeError as error:
            raise BadReference(f"{title}: not UTF-8: {error}") from error
    if array.dtype.kind == "U":
        points = np.frombuffer(array.tobytes(), array.dtype.byteorder.replace("|", "=") + "u4")
        if np.any((points > _LAST_POINT) | ((points >= 0xD800) & (points < 0xE000))):
            _refuse(f"{title}: not Unicode")
        return array.astype(object)
    if array.dtype.kind == "b" and array.view(np.uint8).max() > 1:
        _refuse(f"{title}: a bool that is neither 0 nor 1")
    return array.astype(array.dtype.newbyteorder("="), order="C")


def _refuse(reason: str) -> NoReturn:
    raise BadReference(reason)
