"""What a stretch of time saw, as sums: they merge exactly, in any order and any grouping.

Everything is an integer, or a least or greatest value; so adding is associative to the last bit,
and noise or masks can be added to what leaves the device.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.monitor.reference import CELLS

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class ProfileMismatch(ValueError):
    """Counts of different profiles were to be merged: their cells do not mean the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Counts of S series over some rows.

    Attributes:
        profile: digest of the reference profile that says what the cells mean.
        rows: how many predictions.
        cells: int64 [S, CELLS].
        sums: int64 [S, 2]: sums of z and z² over finite values, in the series' units.
        least, greatest: float64 [S]: of finite values; inf and -inf while there is none.
    """

    profile: str
    rows: int
    cells: Integers
    sums: Integers
    least: Floats
    greatest: Floats

    def __add__(self, other: "Counts") -> "Counts":
        """The counts of both stretches.

        Raises:
            ProfileMismatch: they are of different profiles.
        """
        if self.profile != other.profile or self.cells.shape != other.cells.shape:
            raise ProfileMismatch(
                f"counts of profile {self.profile[:12]} ({len(self.cells)} series) and of "
                f"{other.profile[:12]} ({len(other.cells)} series) do not merge"
            )
        return Counts(
            profile=self.profile,
            rows=self.rows + other.rows,
            cells=self.cells + other.cells,
            sums=self.sums + other.sums,
            least=np.minimum(self.least, other.least),
            greatest=np.maximum(self.greatest, other.greatest),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        mine: tuple[Any, ...] = (self.cells, self.sums, self.least, self.greatest)
        theirs: tuple[Any, ...] = (other.cells, other.sums, other.least, other.greatest)
        return (self.profile, self.rows) == (other.profile, other.rows) and all(
            map(np.array_equal, mine, theirs)
        )

    __hash__ = None  # type: ignore[assignment]  # compared, never a key


def empty(profile: str, series: int) -> Counts:
    """Counts of nothing: adding them changes nothing."""
    return Counts(
        profile=profile,
        rows=0,
        cells=np.zeros((series, CELLS), np.int64),
        sums=np.zeros((series, 2), np.int64),
        least=np.full(series, np.inf),
        greatest=np.full(series, -np.inf),
    )
