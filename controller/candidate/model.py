"""The candidate's model file: its parent's, with every trained initializer moved by an int8 step.

Devices that have the parent fetch the step alone, so it is to be small. One grid serves all tensors: an
error of so much in one weight is as bad as in another, and what is near zero packs to little. It is the
finest whose step has no more than ``AIM`` of the model's bytes. Measured on the digits MLPs of 16 and 64
hidden units, trained on from plain to inverted digits, three seeds each: at 12.9 % accuracy is that of
float32, but for a point in either direction; a grid for each tensor loses a point and a half.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.candidate.errors import NoCandidate
from controller.candidate.parameter_data import Float32s, Place, places
from protos.int8_step import LEVELS, Int8Step, quantised
from protos.model_step import Move, encoded, overhead

AIM: Final = 0.129
FEWEST: Final = 16
"""Levels of the coarsest grid: below, accuracy goes."""


@dataclass(frozen=True, slots=True)
class SteppedModel:
    """A model file made of another.

    Attributes:
        onnx: the file.
        step: what makes it of the parent's.
        levels: of the grid, from zero to the largest difference.
        largest: by how much a number of the file is off what was trained, at most.
    """

    onnx: bytes
    step: bytes
    levels: int
    largest: float

    @property
    def share(self) -> float:
        """The step's bytes, of the file's."""
        return len(self.step) / len(self.onnx)


@dataclass(frozen=True, slots=True)
class Rounded:
    """Parameters as a candidate will have them, and the levels of the grid that they are on."""

    parameters: Mapping[str, Float32s]
    levels: int


def stepped(
    parent: bytes, trained: Mapping[str, Float32s], aim: float = AIM, levels: int = 0
) -> SteppedModel:
    """The parent with its initializers moved to what was ``trained``, as near as the grid lets.

    The grid has so many ``levels``; if that is 0, it is the finest whose step has at most ``aim`` of the
    file's bytes, if need be without what the step says of itself; else the coarsest.

    Raises:
        NoCandidate: a parameter is not in the parent, is of another size, or is not finite.
    """
    where = places(parent, trained.keys())
    differences = {
        name: _difference(name, where[name], parent, array) for name, array in trained.items()
    }

    def on_grid(levels: int) -> SteppedModel:
        return _on_grid(parent, trained, where, differences, levels)

    if levels:
        return on_grid(min(max(levels, 1), LEVELS))
    finest, coarsest, room = on_grid(LEVELS), on_grid(FEWEST), aim * len(parent)
    if len(coarsest.step) > room:
        # Of a very small model what the step says of itself is the most: coarse grids save nothing.
        room += overhead(len(where))
    return finest if len(finest.step) <= room else _finest(on_grid, coarsest, room)


def rounded(parent: bytes, trained: Mapping[str, Float32s]) -> Rounded:
    """The parameters as the candidate will have them: these are what should be evaluated.

    ``stepped`` of them, with their levels, gives them again.

    Raises:
        NoCandidate: as ``stepped``.
    """
    made = stepped(parent, trained)
    shapes = {name: array.shape for name, array in trained.items()}
    return Rounded(parameters_of(made.onnx, shapes), made.levels)


def _finest(
    on_grid: Callable[[int], SteppedModel], coarsest: SteppedModel, room: float
) -> SteppedModel:
    """The finest that has room, by bisection; the coarsest if none has."""
    best, above = coarsest, LEVELS
    while above - best.levels > 1 and len(best.step) <= room:
        made = on_grid((best.levels + above) // 2)
        if len(made.step) <= room:
            best = made
        else:
            above = made.levels
    return best


def parameters_of(model: bytes, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Float32s]:
    """The file's own values of these initializers.

    Raises:
        NoCandidate: one is not there, or of another size.
    """
    where = places(model, shapes.keys())
    for name, shape in shapes.items():
        _check_size(name, where[name], int(np.prod(shape, dtype=np.int64)))
    return {name: where[name].read(model).reshape(shape) for name, shape in shapes.items()}


def _difference(name: str, place: Place, parent: bytes, array: Float32s) -> Float32s:
    _check_size(name, place, array.size)
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.subtract(array.ravel(), place.read(parent), dtype=np.float32)
    if not np.isfinite(found).all():
        raise NoCandidate(f"parameter {name!r} has numbers that are not finite")
    return found


def _check_size(name: str, place: Place, size: int) -> None:
    if place.count != size:
        raise NoCandidate(f"parameter {name!r} has {size} numbers; in the parent {place.count}")


def _on_grid(
    parent: bytes,
    trained: Mapping[str, Float32s],
    where: Mapping[str, Place],
    differences: Mapping[str, Float32s],
    levels: int,
) -> SteppedModel:
    largest = max((_largest(one) for one in differences.values()), default=0.0)
    moves = [
        Move(where[name].offset, _quantised(one, largest / levels))
        for name, one in differences.items()
    ]
    onnx, step = encoded(parent, moves)
    off = (_off(where[name].read(onnx), array) for name, array in trained.items())
    return SteppedModel(onnx, step, levels, max(off, default=0.0))


def _quantised(difference: Float32s, step: float) -> Int8Step:
    """The nearest multiples of ``step``."""
    scale = np.float32(step)
    if not scale > 0:
        return quantised(difference)
    values = np.clip(np.rint(difference / scale), -LEVELS, LEVELS).astype(np.int8)
    return Int8Step(scale, values)


def _largest(array: Float32s) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def _off(made: Float32s, trained: Float32s) -> float:
    return _largest(made - trained.ravel())
