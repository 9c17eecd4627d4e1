"""The candidate's model file: its parent's, with every trained initializer moved by an int8 step.

Devices that have the parent fetch the step alone, so it is to be small. The grid is the finest whose
step has no more than ``AIM`` of the model's bytes: coarser grids pack smaller, for steps of trained
models are mostly near zero. Measured on the digits MLP of 64 hidden units, trained on from plain to
inverted digits (accuracy in float32 0.979 plain, 0.981 inverted):

    levels    of the parameters' bytes    accuracy
    127       17.7 %                      0.981, 0.979
     31       11.8 %                      0.981, 0.979
     15        9.1 %                      0.979, 0.975
      7        6.9 %                      0.956, 0.907
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.candidate.errors import NoCandidate
from controller.candidate.parameter_data import Float32s, Place, places
from protos.int8_step import quantised
from protos.model_step import Move, encoded, overhead

AIM: Final = 0.12
LEVELS: Final = (127, 95, 63, 47, 39, 31, 27, 23, 19, 15)
"""From the finest to the coarsest that keeps accuracy."""


@dataclass(frozen=True, slots=True)
class SteppedModel:
    """A model file made of another.

    Attributes:
        onnx: the file.
        step: what makes it of the parent's.
        levels: of the grid.
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


def stepped(parent: bytes, trained: Mapping[str, Float32s], aim: float = AIM) -> SteppedModel:
    """The parent with its initializers moved to what was ``trained``, as near as the grid lets.

    The grid is the finest whose step has at most ``aim`` of the file's bytes, if need be without what
    the step says of itself; else the coarsest.

    Raises:
        NoCandidate: a parameter is not in the parent, is of another size, or is not finite.
    """
    where = places(parent, trained.keys())
    differences = {
        name: _difference(name, where[name], parent, array) for name, array in trained.items()
    }
    tried: list[SteppedModel] = []
    for levels in LEVELS:
        tried.append(_on_grid(parent, trained, where, differences, levels))
        if tried[-1].share <= aim:
            return tried[-1]
    # Of a very small model what the step says of itself is the most: a coarser grid saves nothing.
    room = aim * len(parent) + overhead(len(where))
    return next((made for made in tried if len(made.step) <= room), tried[-1])


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
    moves = [Move(where[name].offset, quantised(one, levels)) for name, one in differences.items()]
    onnx, step = encoded(parent, moves)
    off = (_off(where[name].read(onnx), array) for name, array in trained.items())
    return SteppedModel(onnx, step, levels, max(off, default=0.0))


def _off(made: Float32s, trained: Float32s) -> float:
    return float(np.max(np.abs(made - trained.ravel()), initial=0.0))
