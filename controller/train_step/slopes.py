"""How fast the loss changes along a direction, seen by central differences in float32."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.train_step.parameters import Float32s, Parameters

LossOf = Callable[[Parameters], float]

AGREES: Final = 0.01
"""A disagreement so small is not looked into further."""

# A step is chosen to change the loss by about this share of itself: a larger one sees curvature, a
# smaller one rounding. One that agrees is enough: an activation may bend between two points.
_SHARES: Final = (1e-3, 3e-4, 1e-4)
_ROUNDING: Final = 4e-7  # of a loss in float32, of itself
_LEAST_LOSS: Final = 1e-6
_LONGEST: Final = 0.1  # of a parameter's norm


@dataclass(frozen=True, slots=True)
class Claim:
    """That the loss has the ``slope`` along a direction of norm 1 of one parameter.

    ``size`` is the norm of that parameter's gradient.
    """

    name: str
    unit: Float32s
    slope: float
    size: float


def disagreement(loss_of: LossOf, at: Parameters, here: float, claim: Claim) -> float:
    """How far the slope is from the one claimed, as a share of the gradient's size.

    ``here`` is the loss at these parameters. What rounding alone explains is no disagreement.
    """
    here = max(here, _LEAST_LOSS)
    longest = _LONGEST * (1.0 + float(np.linalg.norm(at[claim.name])))
    best = float("inf")
    for share in _SHARES:
        step = min(share * here / claim.size, longest)
        slope, unsure = _slope(loss_of, at, {claim.name: claim.unit}, step)
        best = min(best, max(0.0, abs(slope - claim.slope) - unsure) / claim.size)
        if best < AGREES:
            break
    return best


def slope_along(loss_of: LossOf, at: Parameters, unit: Parameters) -> float:
    """The slope along a direction of all parameters, of norm 1, that points up."""
    here = max(loss_of(at), _LEAST_LOSS)
    first, _ = _slope(loss_of, at, unit, 1e-3)
    step = 1e-3 * here / max(abs(first), 1e-3 * here)
    return _slope(loss_of, at, unit, step)[0]


def _slope(loss_of: LossOf, at: Parameters, unit: Parameters, step: float) -> tuple[float, float]:
    """The slope, and by how much rounding may have changed it."""
    ahead, behind = (loss_of(_moved(at, unit, sign * step)) for sign in (1, -1))
    unsure = _ROUNDING * max(abs(ahead), abs(behind)) / step
    return (ahead - behind) / (2 * step), unsure


def _moved(at: Parameters, unit: Parameters, step: float) -> Parameters:
    return {**at, **{name: at[name] + np.float32(step) * one for name, one in unit.items()}}
