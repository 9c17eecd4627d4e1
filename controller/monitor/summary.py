"""What the data of a stretch look like, series by series, beside those of the reference."""

import math
from dataclasses import dataclass

import numpy as np

from agent.monitor.counts import Counts, Integers
from agent.monitor.reference import (
    FINITE,
    FIRST,
    INF,
    NAN,
    Kind,
    Reference,
    Series,
)
from agent.monitor.sentences import moments, title


@dataclass(frozen=True, slots=True)
class Distribution:
    """How one series' values lie.

    Attributes:
        rows: how many values, missing ones too.
        missing, infinite: their shares of the rows.
        outside: share of the finite values that the profile has no cell for.
        mean, spread: of the finite values; None for texts, and where there is none.
        least, greatest: of the finite values; None where there is none.
        shares: of the finite values, in the cells that ``SeriesSummary.cells`` names.
    """

    rows: int
    missing: float
    infinite: float
    outside: float
    mean: float | None
    spread: float | None
    least: float | None
    greatest: float | None
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series now and in the reference.

    Attributes:
        name, title: as findings call it, and for a person.
        side: "input" or "output".
        cells: what each share is of: a category, or a bin's lower edge.
    """

    name: str
    title: str
    side: str
    kind: Kind
    cells: tuple[float | str, ...]
    now: Distribution
    reference: Distribution


def summaries(reference: Reference, counts: Counts) -> tuple[SeriesSummary, ...]:
    """One summary for each of the reference's series; ``counts`` are of its profile."""
    sides = [source.side for source in reference.sources for _ in range(source.parts)]
    return tuple(
        _summary(series, side, counts, index)
        for index, (series, side) in enumerate(zip(reference.series, sides, strict=True))
    )


def _summary(series: Series, side: str, counts: Counts, index: int) -> SeriesSummary:
    total, squares, least, greatest = series.sums
    return SeriesSummary(
        name=series.name,
        title=title(series),
        side=side,
        kind=series.kind,
        cells=_cells(series),
        now=_distribution(
            series,
            counts.cells[index],
            (float(counts.sums[index, 0]), float(counts.sums[index, 1])),
            (float(counts.least[index]), float(counts.greatest[index])),
        ),
        reference=_distribution(
            series,
            np.array(series.counts, np.int64),
            (float(total), float(squares)),
            (least, greatest),
        ),
    )


def _cells(series: Series) -> tuple[float | str, ...]:
    return series.categories if series.kind is Kind.CATEGORICAL else series.edges[:-1]


def _distribution(
    series: Series, cells: Integers, sums: tuple[float, float], range_: tuple[float, float]
) -> Distribution:
    rows, finite = int(cells.sum()), int(cells[:FINITE].sum())
    known = cells[FIRST : FIRST + len(_cells(series))]
    texts = any(isinstance(one, str) for one in series.categories)
    mean, spread = moments(series, finite, *sums)
    numbers = finite > 0 and not texts
    return Distribution(
        rows=rows,
        missing=_share(cells[NAN], rows),
        infinite=_share(cells[INF], rows),
        outside=_share(finite - known.sum(), finite),
        mean=mean if numbers else None,
        spread=spread if numbers else None,
        least=range_[0] if numbers and math.isfinite(range_[0]) else None,
        greatest=range_[1] if numbers and math.isfinite(range_[1]) else None,
        shares=tuple(_share(one, finite) for one in known),
    )


def _share(part: float, whole: int) -> float:
    return float(part) / whole if whole else 0.0
