"""The candidate's model file: its parent's, with every trained initializer moved by an int8 step."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from controller.candidate.errors import NoCandidate
from controller.candidate.grid import AIM, steps_between
from controller.candidate.parameter_data import Float32s, Place, places
from protos.model_step import Move, encoded


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


def stepped(parent: bytes, trained: Mapping[str, Float32s], aim: float = AIM) -> SteppedModel:
    """The parent with its initializers moved to what was ``trained``, rounded as ``grid`` says.

    Raises:
        NoCandidate: a parameter is not in the parent, is of another size, or is not finite.
    """
    where = places(parent, trained.keys())
    old = _read(parent, where, {name: array.shape for name, array in trained.items()})
    steps = steps_between(old, trained, aim)
    moves = [Move(where[name].offset, step) for name, step in steps.of.items()]
    onnx, step = encoded(parent, moves)
    off = (
        np.max(np.abs(where[name].read(onnx) - array.ravel()), initial=0.0)
        for name, array in trained.items()
    )
    return SteppedModel(onnx, step, steps.levels, float(max(off, default=0.0)))


def parameters_of(model: bytes, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Float32s]:
    """The file's own values of these initializers.

    Raises:
        NoCandidate: one is not there, or of another size.
    """
    return _read(model, places(model, shapes.keys()), shapes)


def _read(
    model: bytes, where: Mapping[str, Place], shapes: Mapping[str, tuple[int, ...]]
) -> Mapping[str, Float32s]:
    found = {}
    for name, shape in shapes.items():
        size, place = int(np.prod(shape, dtype=np.int64)), where[name]
        if place.count != size:
            raise NoCandidate(f"parameter {name!r} has {size} numbers; in the parent {place.count}")
        found[name] = place.read(model).reshape(shape)
    return found
