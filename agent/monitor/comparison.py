"""Compares counts with a reference, every series at once: what it proves, and how much it is.

*Evidence* of a series is -log10 of its p-value over several tests, each of which sees what the
others do not: KS a shift, chi-square a stuck value, an outlier or another spread, and the rare-value
test what never or hardly ever occurred. *Effect* is how large the change is, from 0 to 1.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.monitor import statistics
from agent.monitor.reference import FINITE, OTHER, OVER, UNDER, Kind, Reference

Numbers = NDArray[Any]
Floats = NDArray[np.float64]

EXPECTED: Final = 5.0
"""Cells are pooled with their neighbours until so many rows are expected in each (Cochran 1954)."""
TESTS: Final = 3
_LEAST_P: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arrays [..., S]: one number for each series.

    Attributes:
        rows: of the window, with a finite or known value.
        distance: KS for numeric series, largest change of a category's share for others.
        chi_square, freedom: of the pooled cells.
        rare: share of values that the reference has hardly any of.
        psi: bias-adjusted.
        p_ks, p_chi_square, p_rare: each test alone.
        evidence: -log10 of all three together (Bonferroni).
        effect: the larger of distance and psi, at most 1.
    """

    rows: Floats
    distance: Floats
    chi_square: Floats
    freedom: Floats
    rare: Floats
    psi: Floats
    p_ks: Floats
    p_chi_square: Floats
    p_rare: Floats
    evidence: Floats
    effect: Floats


@dataclass(frozen=True, slots=True)
class Pooling:
    """Which neighbouring cells are taken together at one window size.

    Attributes:
        starts: of the pooled cells in the series' finite cells laid end to end.
        firsts: of each series' pooled cells among all pooled cells.
        sizes: pooled cells of each series.
    """

    starts: NDArray[np.intp]
    firsts: NDArray[np.intp]
    sizes: NDArray[np.intp]

    def cells(self, cells: Numbers) -> Floats:
        """Pooled cells [..., P] of ``cells`` [..., S, FINITE]."""
        flat = cells.reshape(*cells.shape[:-2], -1)
        return np.asarray(np.add.reduceat(flat, self.starts, axis=-1), np.float64)

    def series(self, pooled: Floats) -> Floats:
        """Sums [..., S] over each series' pooled cells."""
        return np.asarray(np.add.reduceat(pooled, self.firsts, axis=-1))

    def spread(self, per_series: Numbers) -> Numbers:
        """A value for each series, repeated for each of its pooled cells."""
        return np.repeat(per_series, self.sizes, axis=-1)


def reference_cells(reference: Reference) -> NDArray[np.int64]:
    """The reference's own counts [S, CELLS]."""
    return np.array([series.counts for series in reference.series], np.int64)


def numeric_series(reference: Reference) -> NDArray[np.bool_]:
    """Which series [S] are binned numbers."""
    return np.array([series.kind is Kind.NUMERIC for series in reference.series])


def pooling(cells: NDArray[np.int64], rows: float) -> Pooling:
    """For windows of ``rows`` against the reference's ``cells`` [S, CELLS].

    It looks at the reference alone, so that the window has no say in how it is tested.
    """
    finite = cells[:, :FINITE]
    totals = np.maximum(finite.sum(axis=1), 1)
    expected = finite * (rows / totals)[:, None]
    starts = np.zeros(finite.shape, np.bool_)
    starts[:, 0] = True
    held = expected[:, 0].copy()
    left = expected[:, 1:].sum(axis=1)
    for cell in range(1, FINITE):
        # A cell begins where the one before is full, and enough is left to fill it.
        begin = (held >= EXPECTED) & (left >= EXPECTED)
        starts[:, cell] = begin
        held = np.where(begin, expected[:, cell], held + expected[:, cell])
        left = left - expected[:, cell]
    sizes = starts.sum(axis=1)
    return Pooling(
        starts=np.flatnonzero(starts.ravel()),
        firsts=np.concatenate([[0], np.cumsum(sizes)[:-1]]),
        sizes=sizes,
    )


def compare(
    reference: Numbers, window: Numbers, numeric: NDArray[np.bool_], pooled: Pooling
) -> Comparison:
    """Compares ``window`` with ``reference``, both counts [..., S, CELLS]."""
    before, after = reference[..., :FINITE], window[..., :FINITE]
    totals = before.sum(axis=-1), after.sum(axis=-1)
    both = np.minimum(totals[0], totals[1]) > 0
    distance, p_ks = _distances(before, after, totals, numeric)

    cells = pooled.cells(before), pooled.cells(after)
    wide = pooled.spread(totals[0]), pooled.spread(totals[1])
    freedom = np.asarray(pooled.sizes - 1, np.float64)
    chi_square = pooled.series(statistics.chi_square_cells(*cells, wide))
    p_chi_square = np.where(both, statistics.chi_square_tail(chi_square, freedom), 1.0)
    psi = pooled.series(statistics.psi_cells(*cells, wide))
    psi = statistics.psi_adjusted(psi, freedom, totals)

    known, seen = _rare(before, numeric), _rare(after, numeric)
    p_rare = np.where(both, statistics.rare_tail(known, seen, totals), 1.0)
    rare = np.asarray(seen / np.maximum(totals[1], 1))

    p = np.minimum(np.minimum(p_ks, p_chi_square), p_rare) * TESTS
    effect = np.where(both, np.minimum(np.maximum(np.maximum(distance, psi), rare), 1.0), 0.0)
    return Comparison(
        rows=np.asarray(totals[1], np.float64),
        distance=distance,
        chi_square=chi_square,
        freedom=np.broadcast_to(freedom, chi_square.shape),
        rare=rare,
        psi=psi,
        p_ks=p_ks,
        p_chi_square=p_chi_square,
        p_rare=p_rare,
        evidence=-np.log10(np.clip(p, _LEAST_P, 1.0)),
        effect=effect,
    )


def _distances(
    before: Numbers, after: Numbers, totals: tuple[Numbers, Numbers], numeric: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Each series' distance, and the p-value of those of numeric series."""
    distance = np.empty(np.broadcast_shapes(totals[0].shape, totals[1].shape))
    distance[..., numeric] = statistics.ks_distance(before[..., numeric, :], after[..., numeric, :])
    parts = totals[0][..., ~numeric], totals[1][..., ~numeric]
    changes = _largest_change(before[..., ~numeric, :], after[..., ~numeric, :], parts)
    distance[..., ~numeric] = changes
    rows = statistics.effective_rows(*totals)
    p = np.ones_like(distance)
    p[..., numeric] = statistics.ks_tail(distance[..., numeric], rows[..., numeric])
    return distance, p


def _rare(cells: Numbers, numeric: NDArray[np.bool_]) -> Numbers:
    outside = cells[..., UNDER] + cells[..., OVER]
    return np.asarray(outside + np.where(numeric, 0, cells[..., OTHER]))


def _largest_change(before: Numbers, after: Numbers, totals: tuple[Numbers, Numbers]) -> Floats:
    p = before / np.maximum(totals[0], 1)[..., None]
    q = after / np.maximum(totals[1], 1)[..., None]
    return np.asarray(np.abs(q - p).max(axis=-1))
