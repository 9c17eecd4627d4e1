"""The mean of a run's last global models, which is what comes of it.

Where devices see other things than each other, a global model leans towards those that were asked last.
The mean of the last ones leans to nobody: averaging of iterates (Polyak and Juditsky 1992), of the last
share of them, since the first are far off (Rakhlin et al. 2012, https://arxiv.org/abs/1109.5647); of
global models it was found to help with heterogeneous data by Zhou et al. 2023
(https://arxiv.org/abs/2305.07845). What devices are sent is not the mean: training goes on from the newest.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.federated.coordinator.checkpoint import State

Float32s = NDArray[np.float32]

FEWEST: Final = 2
"""Models that have a mean; one is its own."""

_NOISE: Final = 1e-9
"""Of a product of floats: a fifth of ten rounds are two."""


class Tail:
    """The sum so far, in the memory of one model as float64.

    Args:
        rounds: of the run.
        share: of them, the last, rounded up; of 0 there is no mean.
    """

    def __init__(self, rounds: int, share: float) -> None:
        self._first = rounds - math.ceil(share * rounds - _NOISE) + 1
        self._count = 0
        self._sums: dict[str, NDArray[np.float64]] = {}

    def take(self, round_: int, arrays: Mapping[str, Float32s]) -> None:
        """The global model that this round has made; each once, in their order."""
        if round_ < self._first:
            return
        self._count += 1
        for name, array in arrays.items():
            if name in self._sums:
                self._sums[name] += array
            else:
                self._sums[name] = array.astype(np.float64)

    def mean(self) -> dict[str, Float32s]:
        """Of all that were taken, as float32; empty if it would be the newest model itself."""
        if self._count < FEWEST:
            return {}
        return {name: (sum_ / self._count).astype(np.float32) for name, sum_ in self._sums.items()}

    def state(self) -> Mapping[str, State]:
        """What is kept from round to round."""
        return {"count": self._count, "sums": dict(self._sums)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what ``state`` gave."""
        self._count, self._sums = state["count"], dict(state["sums"])
