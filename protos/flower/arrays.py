"""How the bytes of a Flower ``Array`` are read: its ``stype``. Nothing here unpickles.

A header is checked before the array behind it is touched: a file of a hundred bytes may claim to hold
four terabytes.
"""

import io
import math
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.errors import DocumentError
from protos.flower import message_pb2
from protos.int8_step import Int8Step, read_int8_step

NPY: Final = "numpy.ndarray"
"""Flower's own: the bytes of a .npy file."""

INT8_STEP: Final = "muster.int8-step"
"""A difference from the array that the task brought: ``protos.int8_step``."""

_MAGIC: Final = b"\x93NUMPY"
_HEADER_BYTES: Final = 512
_HEADER: Final = re.compile(
    rb"\{'descr': '([!-&(-~]{1,20})', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\), ?\} *\n"
)
"""As numpy writes it."""

Float32s = NDArray[np.float32]


def npy(array: Float32s) -> message_pb2.Array:
    """The array as Flower sends it."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)  # a scalar keeps its shape
    shape = list(array.shape)
    return message_pb2.Array(dtype=array.dtype.name, shape=shape, stype=NPY, data=buffer.getvalue())


def int8_step(step: Int8Step) -> message_pb2.Array:
    """The difference as our own encoding; it stands for a float32 array."""
    shape = list(step.values.shape)
    return message_pb2.Array(dtype="float32", shape=shape, stype=INT8_STEP, data=step.encode())


def read_npy(array: message_pb2.Array, shape: tuple[int, ...]) -> Float32s:
    """The float32 array of that shape.

    Raises:
        DocumentError: it is of another kind, dtype, shape, order or length.
    """
    data = array.data
    if array.stype != NPY or data[:6] != _MAGIC or data[6:8] != b"\x01\x00":
        raise DocumentError("malformed", "not a .npy file of version 1.0")
    start = 10 + int.from_bytes(data[8:10], "little")
    # numpy's own reader parses it as Python: it fails in ways of the compiler's, and takes its time.
    header = _HEADER.fullmatch(data[10:start])
    if header is None or start > _HEADER_BYTES:
        raise DocumentError("malformed", "a .npy file with a header that can't be read")
    dtype, order, axes = (group.decode("ascii") for group in header.groups())
    got = tuple(int(axis) for axis in axes.replace(",", " ").split())
    if dtype != "<f4" or order != "False" or got != shape:
        raise DocumentError("malformed", f"{dtype} {got}, not float32 {shape} in C order")
    if len(data) - start != 4 * math.prod(shape):
        raise DocumentError("malformed", f"{len(data)} bytes are not what shape {shape} takes")
    return np.frombuffer(data, "<f4", offset=start).reshape(shape)


def read_array(array: message_pb2.Array, base: Float32s) -> Float32s:
    """The float32 array that ``array`` is, or moves ``base`` to.

    Raises:
        DocumentError: it is not of the shape of ``base``, or can't be read. It may hold NaN.
    """
    if array.stype == INT8_STEP:
        step = read_int8_step(array.data, base.shape)
        return np.add(base, step.difference(), dtype=np.float32)
    return read_npy(array, base.shape)
