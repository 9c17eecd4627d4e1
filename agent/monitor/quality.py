"""Data quality, judged before drift: a broken pipeline is no changed world.

A share is bad if it is larger than the reference's beyond chance, by a binomial bound over all
series, and by more than a floor.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from agent.monitor import statistics
from agent.monitor.comparison import reference_cells
from agent.monitor.counts import Counts
from agent.monitor.finding import Finding, Severity
from agent.monitor.reference import (
    FINITE,
    INF,
    NAN,
    OTHER,
    OVER,
    UNDER,
    Kind,
    Reference,
    Series,
    Source,
)
from agent.monitor.sentences import percent, title
from protos.manifest import Semantic

FLOOR: Final = 0.01
"""A share that grew by less is not reported: single bad readings are the weather of sensors."""
CRITICAL: Final = 0.1
VARIED: Final = 0.5
"""A series is only called stuck if no one cell held so large a share of the reference."""

_CELLS: Final = {
    "nan_share": ((NAN,), "{} of {} is NaN or null; {} in the reference"),
    "inf_share": ((INF,), "{} of {} is infinite; {} in the reference"),
    "out_of_range_share": ((UNDER, OVER), "{} of {} is far out of range; {} in the reference"),
    "unseen_share": ((OTHER,), "{} of {} are categories unknown to the reference; {} in it"),
}


def quality_findings(reference: Reference, counts: Counts) -> tuple[Finding, ...]:
    """What is wrong with the data as data, the largest first."""
    found = [*_share_findings(reference, counts), *_stuck(reference, counts)]
    summary = {series.name for series in reference.series if series.summary}
    return tuple(sorted(found, key=lambda one: (-one.effect, one.series not in summary)))


def _checks(source: Source, series: Series) -> Iterator[str]:
    """Which shares can be bad. What comes out of a model is only looked at for NaN and infinity."""
    yield "nan_share"
    yield "inf_share"
    if source.side == "input":
        if series.lower is not None:
            yield "out_of_range_share"
        if series.kind is Kind.CATEGORICAL and source.semantic is Semantic.CATEGORICAL:
            yield "unseen_share"


def _each(reference: Reference) -> Iterator[tuple[int, Source, Series]]:
    index = 0
    for source in reference.sources:
        for _ in range(source.parts):
            yield index, source, reference.series[index]
            index += 1


def _share_findings(reference: Reference, counts: Counts) -> Iterator[Finding]:
    before, after = reference_cells(reference), counts.cells
    checks = [
        (index, series, statistic)
        for index, source, series in _each(reference)
        for statistic in _checks(source, series)
    ]
    limit = reference.policy.alpha / len(checks)
    for statistic, (cells, sentence) in _CELLS.items():
        which = [(index, series) for index, series, one in checks if one == statistic]
        if not which:
            continue
        at = [index for index, _ in which]
        known, seen = (side[at][:, list(cells)].sum(axis=1) for side in (before, after))
        totals = np.full(len(at), reference.rows), np.full(len(at), counts.rows)
        was, now = known / totals[0], seen / totals[1]
        grown = now - was > FLOOR
        if not grown.any():
            continue
        p = statistics.rare_tail(known, seen, totals)
        for row in np.flatnonzero((p < limit) & grown):
            text = sentence.format(percent(now[row]), title(which[row][1]), percent(was[row]))
            yield Finding(
                series=which[row][1].name,
                kind="quality",
                statistic=statistic,
                value=float(now[row]),
                threshold=float(was[row] + FLOOR),
                p_value=min(1.0, float(p[row]) * len(checks)),
                effect=float(now[row] - was[row]),
                severity=_severity(float(now[row] - was[row])),
                detail=text,
            )


def _severity(effect: float) -> Severity:
    return Severity.CRITICAL if effect >= CRITICAL else Severity.WARNING


def _stuck(reference: Reference, counts: Counts) -> Iterator[Finding]:
    """Inputs that varied in the reference and show one value only."""
    for index, source, series in _each(reference):
        named = source.semantic is Semantic.CATEGORICAL or source.side == "output"
        finite = int(counts.cells[index, :FINITE].sum())
        known = series.counts[:FINITE]
        largest = max(known) / max(sum(known), 1)
        one_value = counts.least[index] == counts.greatest[index]
        if named or not one_value or finite < reference.policy.n_min or largest >= VARIED:
            continue
        yield Finding(
            series=series.name,
            kind="quality",
            statistic="stuck",
            value=float(counts.least[index]),
            threshold=largest,
            p_value=float(max(largest**finite, 1e-300)),
            effect=1.0,
            severity=Severity.CRITICAL,
            detail=f"{title(series)} is stuck at {counts.least[index]:.4g} for {finite} predictions",
        )
