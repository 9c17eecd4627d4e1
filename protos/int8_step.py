"""A small difference between two float32 tensors as int8: a quarter of the bytes, less when packed.

    step = quantised(new - old)
    moved = old + step.difference()     # what both sides compute, bit for bit
    carry = new - moved                 # error feedback: what was rounded away goes into the next one

Both sides round alike: one multiplication and one addition in float32, nothing fused.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.errors import DocumentError

LEVELS: Final = 127

Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Int8Step:
    """``scale * values``: float32, of the shape of ``values``."""

    scale: np.float32
    values: NDArray[np.int8]

    def difference(self) -> Float32s:
        """What it moves a tensor by."""
        return np.multiply(self.values, self.scale, dtype=np.float32)

    def encode(self) -> bytes:
        """Four bytes of scale, little endian, and one for each value, in C order."""
        return np.asarray(self.scale, "<f4").tobytes() + self.values.tobytes()


def quantised(difference: Float32s, levels: int = LEVELS) -> Int8Step:
    """The nearest step on a grid of ``2 * levels + 1`` values that spans the largest of them.

    ``difference`` is finite. Fewer levels are coarser, and pack smaller.
    """
    largest = float(np.max(np.abs(difference), initial=0.0))
    scale = np.float32(largest / levels)
    if not scale > 0:  # all zeros, or too small for a float32
        return Int8Step(np.float32(0), np.zeros(difference.shape, np.int8))
    values = np.clip(np.rint(difference / scale), -levels, levels).astype(np.int8)
    return Int8Step(scale, values)


def read_int8_step(data: bytes, shape: tuple[int, ...]) -> Int8Step:
    """The step in ``data``, for a tensor of that shape.

    Raises:
        DocumentError: it is of another length, or its scale is not finite or negative.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) != 4 + count:
        raise DocumentError("malformed", f"int8 step: {len(data)} bytes, not {4 + count}")
    scale = np.frombuffer(data, "<f4", 1)[0]
    if not np.isfinite(scale) or scale < 0:
        raise DocumentError("malformed", "int8 step: its scale is not a finite number from 0 on")
    return Int8Step(np.float32(scale), np.frombuffer(data, np.int8, count, 4).reshape(shape))
