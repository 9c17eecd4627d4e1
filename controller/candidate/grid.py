"""The grid that a run's final parameters are rounded to: a candidate is its parent and an int8 step.

Devices that have the parent fetch the step alone, so it is to be small. One grid serves all tensors: an
error of so much in one weight is as bad as in another, and what is near zero packs to little. It is the
finest whose values pack to an eighth of the parameters' bytes. It follows from the parameters alone: so
what devices evaluate at the end of a run is, to the bit, what is shipped.

Measured on the digits MLPs of 16 and 64 hidden units, trained on from plain to inverted digits, three
seeds each: accuracy is that of float32, but for a point in either direction; a grid for each tensor
loses a point and a half.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.candidate.errors import NoCandidate
from controller.candidate.parameter_data import Float32s
from protos.int8_step import LEVELS, Int8Step, quantised
from protos.model_step import packed

AIM: Final = 0.125
"""Of the parameters' bytes."""
LEAST_BYTES: Final = 512
"""Of a very small model what the file says of itself is the most: a coarse grid saves nothing."""
FEWEST: Final = 10
"""Levels of the coarsest grid: below, accuracy goes."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A step for every parameter. ``levels``: of the grid, from zero to the largest difference."""

    of: Mapping[str, Int8Step]
    levels: int


def rounded(
    parent: Mapping[str, Float32s], trained: Mapping[str, Float32s]
) -> Mapping[str, Float32s]:
    """The parameters as the candidate has them: these are what should be evaluated.

    Raises:
        NoCandidate: a parameter is not in the parent, is of another shape, or is not finite.
    """
    steps = steps_between(parent, trained).of
    return {
        name: np.add(parent[name], step.difference(), dtype=np.float32)
        for name, step in steps.items()
    }


def steps_between(
    parent: Mapping[str, Float32s], trained: Mapping[str, Float32s], aim: float = AIM
) -> Steps:
    """The steps on the finest grid whose values pack to ``aim`` of the bytes, else on the coarsest.

    Raises:
        NoCandidate: as ``rounded``.
    """
    differences = {
        name: _difference(name, parent.get(name), array) for name, array in trained.items()
    }
    largest = max((_largest(one) for one in differences.values()), default=0.0)
    room = max(aim * sum(one.nbytes for one in differences.values()), LEAST_BYTES)

    def on_grid(levels: int) -> Steps:
        step = largest / levels
        return Steps({name: _step(one, step) for name, one in differences.items()}, levels)

    finest = on_grid(LEVELS)
    return finest if size_of(finest) <= room else _finest(on_grid, room)


def size_of(steps: Steps) -> int:
    """How many bytes the values pack to, one tensor behind the other."""
    return len(packed(b"".join(one.values.tobytes() for one in steps.of.values())))


def _finest(on_grid: Callable[[int], Steps], room: float) -> Steps:
    """The finest that has room, by bisection; the coarsest if none has."""
    best, above = on_grid(FEWEST), LEVELS
    while above - best.levels > 1 and size_of(best) <= room:
        made = on_grid((best.levels + above) // 2)
        if size_of(made) <= room:
            best = made
        else:
            above = made.levels
    return best


def _difference(name: str, old: Float32s | None, new: Float32s) -> Float32s:
    if old is None or old.shape != new.shape:
        there = "is not there" if old is None else f"is {list(old.shape)}"
        raise NoCandidate(f"parameter {name!r} is {list(new.shape)}; in the parent it {there}")
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.subtract(new, old, dtype=np.float32)
    if not np.isfinite(found).all():
        raise NoCandidate(f"parameter {name!r} has numbers that are not finite")
    return found


def _step(difference: Float32s, step: float) -> Int8Step:
    """The nearest multiples of ``step``."""
    scale = np.float32(step)
    if not scale > 0:
        return quantised(difference)
    values = np.clip(np.rint(difference / scale), -LEVELS, LEVELS).astype(np.int8)
    return Int8Step(scale, values)


def _largest(array: Float32s) -> float:
    return float(np.max(np.abs(array), initial=0.0))
