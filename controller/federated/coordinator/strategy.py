"""What the driver needs of a strategy; Flower's are behind it in ``flower.py``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controller.federated.coordinator.checkpoint import State
from controller.federated.coordinator.request import Request, Scalar

Parameters = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Update:
    """One admitted reply."""

    node: int
    weight: float
    arrays: Parameters
    metrics: Mapping[str, float | list[float]]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The next global parameters, not yet float32, and the strategy's own metrics."""

    arrays: Mapping[str, NDArray[np.generic]]
    metrics: Mapping[str, float]


class Strategy(Protocol):
    """How the updates of a round become the next global parameters."""

    @property
    def sums(self) -> bool:
        """Whether it needs no more of the updates than their weighted mean."""
        ...

    @property
    def chooses(self) -> bool:
        """Whether it chooses among the nodes itself; else it asks all that it is given."""
        ...

    @property
    def fewest(self) -> int:
        """So many nodes there must be for it to begin a round."""
        ...

    def configure(
        self,
        round_: int,
        arrays: bytes,
        config: Mapping[str, Scalar],
        nodes: Sequence[int],
        seed: int,
    ) -> Sequence[Request]:
        """The round's requests.

        Raises:
            TooFewDevices: it wants more nodes than there are.
        """
        ...

    def aggregate(self, round_: int, updates: Iterable[Update], seed: int) -> Aggregate:
        """What comes of the round that was configured last; the updates by node id.

        Raises:
            NoAggregate: it can't make anything of them.
        """
        ...

    def state(self) -> Mapping[str, State]:
        """What it keeps from round to round."""
        ...

    def restore(self, state: Mapping[str, State]) -> None:
        """Takes back what ``state`` gave."""
        ...
