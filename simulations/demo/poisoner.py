"""A device that somebody has taken over: it learns as it is told, and sends the opposite, magnified.

``python -m simulations.demo.poisoner --home FOLDER run`` is ``muster-agent``, but for that. It has its
own key and a good certificate, so the controller can tell it from the others by what it sends alone.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent import training
from agent.cli import main

MAGNIFIED: Final = np.float32(-20)

Float32s = NDArray[np.float32]


def poisoned(difference: Mapping[str, Float32s]) -> Mapping[str, Float32s]:
    """What is sent in place of what was learnt."""
    return {name: MAGNIFIED * one for name, one in difference.items()}


if __name__ == "__main__":
    training.unshielded = poisoned
    main()
