"""FedBuff (arXiv:2106.06639): updates are taken in as they come, of whatever age, a few at a time.

Nobody waits for the slowest: whoever is free is asked with the newest parameters, and when ``buffer``
updates have come they make the next ones. An update that was learnt from parameters ``s`` versions old
weighs 1/√(1+s). Pure decisions; ``buffered_driver.py`` carries them out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A reply that came, of a task from when the version was ``version``."""

    task: str
    node: int
    version: int
    at_ms: int
    good: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What ends a version.

    Attributes:
        counted: those that make the next parameters, by node id and version.
        judged: all arrivals until then, which are done with.
        why: what ended it, in words.
    """

    counted: tuple[Arrival, ...]
    judged: tuple[Arrival, ...]
    why: str


def taken(
    arrivals: Sequence[Arrival], buffer: int, fewest: int, deadline_ms: int, now_ms: int
) -> Taken | None:
    """What makes the next version; None while there is too little.

    As in ``phase.verdict``, it depends on when replies came and not on when somebody looks. Updates of
    ``fewest`` devices must be in it: one that is fast can't make a version by itself.
    """
    order = sorted(arrivals, key=lambda one: (one.at_ms, one.node, one.version))
    good = [one for one in order if one.good]
    enough = _enough(good, buffer, fewest)
    if enough and now_ms > good[enough - 1].at_ms:
        last = order.index(good[enough - 1])
        why = f"{enough} updates have come"
        return Taken(_sorted(good[:enough]), tuple(order[: last + 1]), why)
    timely = [one for one in order if one.at_ms <= deadline_ms]
    have = [one for one in timely if one.good]
    if now_ms > deadline_ms and not _enough(have, buffer, fewest):
        why = f"deadline: {len(have)} of {buffer} updates had come"
        if _nodes(have) < fewest:
            return Taken((), (), f"{why}, of {_nodes(have)} devices; {fewest} are needed")
        return Taken(_sorted(have), tuple(timely), why)
    return None


def _enough(good: Sequence[Arrival], buffer: int, fewest: int) -> int:
    """How many of the first fill the buffer, and are of enough devices; 0 if they do not."""
    for count in range(buffer, len(good) + 1):
        if _nodes(good[:count]) >= fewest:
            return count
    return 0


def _nodes(arrivals: Sequence[Arrival]) -> int:
    return len({one.node for one in arrivals})


def _sorted(arrivals: Sequence[Arrival]) -> tuple[Arrival, ...]:
    return tuple(sorted(arrivals, key=lambda one: (one.node, one.version)))


def discount(staleness: int) -> float:
    """What an update weighs that is so many versions old."""
    return 1.0 / math.sqrt(1.0 + staleness)


def free(ready: Sequence[int], busy: frozenset[int], asked: frozenset[int]) -> tuple[int, ...]:
    """Nodes that may be asked: not at work, and not asked for this version yet."""
    return tuple(node for node in ready if node not in busy and node not in asked)


class Buffer:
    """g + Σ wᵢ dᵢ / K: the next parameters, in the memory of one model."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._count = 0

    def add(
        self, after: Mapping[str, Float32s], base: Mapping[str, Float32s], weight: float
    ) -> None:
        """Takes one update in: how far it has moved from what it began with."""
        for name, array in after.items():
            moved = np.subtract(array, base[name], dtype=np.float64) * weight
            if name in self._sums:
                self._sums[name] += moved
            else:
                self._sums[name] = moved
        self._count += 1

    def moved(self, arrays: Mapping[str, Float32s]) -> dict[str, Float32s]:
        """``arrays``, moved by the mean of the updates; float32."""
        return {
            name: (array + self._sums[name] / self._count).astype(np.float32)
            for name, array in arrays.items()
        }
