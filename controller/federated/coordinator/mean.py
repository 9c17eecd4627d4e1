"""The weighted mean of many replies in the memory of one model: they are added up one at a time."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.federated.reply import EXAMPLES

Float32s = NDArray[np.float32]


class WeightedMean:
    """Σ wᵢ xᵢ / Σ wᵢ by parameter, summed in float64: what FedAvg is (arXiv:1602.05629)."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._weight = 0.0

    def add(self, arrays: Mapping[str, Float32s], weight: float) -> None:
        """Takes one reply in. The order matters to the last bit: it is that of node ids."""
        for name, array in arrays.items():
            weighted = np.multiply(array, weight, dtype=np.float64)
            if name in self._sums:
                self._sums[name] += weighted
            else:
                self._sums[name] = weighted
        self._weight += weight

    @property
    def weight(self) -> float:
        """Of all together."""
        return self._weight

    def result(self) -> dict[str, Float32s]:
        """The mean as float32, in the order of the first reply. There was one at least."""
        return {
            name: (total / self._weight).astype(np.float32) for name, total in self._sums.items()
        }


def mean_metrics(
    replies: Sequence[tuple[float, Mapping[str, float | list[float]]]],
) -> dict[str, float]:
    """The weighted mean of each metric that is one number, over the replies that have it.

    Of those that more than half of the replies have: the names are devices' own.
    What they are weighed by is left out, as Flower does.
    """
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    told = Counter[str]()
    for weight, metrics in replies:
        for name, value in metrics.items():
            if name != EXAMPLES and not isinstance(value, list):
                told[name] += 1
                sums[name] = sums.get(name, 0.0) + weight * value
                weights[name] = weights.get(name, 0.0) + weight
    return {
        name: total / weights[name]
        for name, total in sorted(sums.items())
        if weights[name] and 2 * told[name] > len(replies)
    }
