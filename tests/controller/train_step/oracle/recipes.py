"""How the parameters are stepped whose values after some steps are compared."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.controller.train_step.oracle.reference import Array

STEPS: Final = 5
LEARNING_RATE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one step is made of; 0 and None leave a part of it out."""

    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    proximal: float = 0.0


RECIPES: Final = {
    "plain": Recipe(),
    "momentum": Recipe(momentum=0.9),
    "weight decay": Recipe(weight_decay=1e-2),
    "clipped": Recipe(clip_norm=0.5),
    "clipped, with weight decay": Recipe(weight_decay=1e-2, clip_norm=0.5),
    "proximal": Recipe(proximal=0.5),
    "all of it": Recipe(momentum=0.9, weight_decay=1e-2, clip_norm=0.5, proximal=0.5),
}


def anchor(parameter: Array) -> Array:
    """Where the proximal term pulls a parameter that starts here: elsewhere."""
    return parameter * np.float32(0.75)
