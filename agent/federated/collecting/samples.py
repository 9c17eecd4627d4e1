"""A fair sample of all rows that a model was ever shown, for one that is its own target.

Every row draws a rank; the store keeps the highest. That is a uniform sample without replacement of
however many rows came, and none must be counted (Efraimidis and Spirakis 2006,
https://doi.org/10.1016/j.ipl.2005.11.003, with equal weights).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np

from agent.federated.layout import Array, Layout

AT_ONCE: Final = 32
"""Rows that are written together: no request waits for the disk alone."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows that are to be written now. ``since`` is when the first of them was drawn."""

    rows: Array
    ranks: Sequence[float]
    since: float


@dataclass
class Drawn:
    """Rows of one layout that wait to be written, with their ranks.

    Attributes:
        floor: a row of a lower rank would go at once: the store said so.
    """

    layout: Layout
    floor: float = -inf
    rows: list[Array] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)
    since: float = 0.0

    def draw(self, rows: Array, ranks: Sequence[float], now: float) -> bool:
        """Takes those above the floor; says whether it is time to write."""
        for index, rank in enumerate(ranks):
            if rank >= self.floor:
                self.since = self.since if self.rows else now
                self.rows.append(
                    rows[index : index + 1].copy()
                )  # a view would keep all of its request
                self.ranks.append(rank)
        return len(self.rows) >= AT_ONCE

    def taken(self) -> Waiting | None:
        """What waits, which then waits no more; None if nothing does."""
        if not self.rows:
            return None
        waiting = Waiting(np.concatenate(self.rows), self.ranks, self.since)
        self.rows, self.ranks = [], []
        return waiting
