"""The verdict over one stretch of time. Significance and effect must both speak."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.monitor import statistics, thresholds
from agent.monitor.comparison import (
    TESTS,
    Comparison,
    compare,
    numeric_series,
    pooling,
    reference_cells,
)
from agent.monitor.counts import Counts, ProfileMismatch
from agent.monitor.finding import MAX_FINDINGS, Finding, Judgement, Severity, Verdict
from agent.monitor.quality import quality_findings
from agent.monitor.reference import FINITE, MIN_ROWS, Reference
from agent.monitor.sentences import change

URGENT: Final = 1.5


@dataclass(frozen=True, slots=True)
class Floors:
    """Effects from which a finding is one, and an urgent one."""

    warning: float
    critical: float


def judge(reference: Reference, counts: Counts, *, n_min: int = 0) -> Judgement:
    """What ``counts`` say against ``reference``.

    Faulty data decide the verdict, for they may well be the cause of all else; what the other series
    show is listed behind them, so that one bad column hides no other.

    ``n_min`` replaces the policy's if it is not 0; it never goes below ``MIN_ROWS``.

    Raises:
        ProfileMismatch: the counts are of another profile.
    """
    if counts.profile != reference.digest:
        raise ProfileMismatch(f"counts of profile {counts.profile[:12]}, not of this reference")
    if counts.rows < max(n_min or reference.policy.n_min, MIN_ROWS):
        return Judgement(Verdict.INSUFFICIENT_DATA)
    quality = quality_findings(reference, counts)
    policy, table = reference.policy, reference.table
    floor = thresholds.effect_floor(table, counts.rows, policy.warning)
    # Where chance alone makes effects large, only what is far beyond chance is urgent.
    floors = Floors(floor, max(policy.critical, min(URGENT * floor, 0.9)))
    if not quality:
        return drift(reference, counts, floors, policy.alpha)
    faulty = frozenset(one.series for one in quality)
    return bad_data(quality, drift(reference, counts, floors, policy.alpha, faulty).findings)


def bad_data(quality: Sequence[Finding], moved: Sequence[Finding]) -> Judgement:
    """The judgement of faulty data: at least half of its findings say what is faulty."""
    kept = quality[: max(MAX_FINDINGS - len(moved), MAX_FINDINGS // 2)]
    return Judgement(Verdict.BAD_DATA, (*kept, *moved)[:MAX_FINDINGS])


def compared(reference: Reference, counts: Counts) -> Comparison:
    """Every series' statistics."""
    cells = reference_cells(reference)
    pooled = pooling(cells, counts.rows)
    return compare(cells, counts.cells, numeric_series(reference), pooled)


def drift(
    reference: Reference,
    counts: Counts,
    floors: Floors,
    alpha: float,
    without: frozenset[str] = frozenset(),
) -> Judgement:
    """The series that moved beyond chance ``alpha`` and beyond ``floors``, less those ``without``."""
    comparison = compared(reference, counts)
    critical = thresholds.critical_evidence(reference.table, counts.rows, alpha)
    spoken = (comparison.evidence >= critical) & (comparison.effect >= floors.warning)
    spoken &= np.array([series.name not in without for series in reference.series])
    found = [
        _finding(reference, counts, comparison, int(index), critical, floors)
        for index in ranked(reference, comparison, spoken)[:MAX_FINDINGS]
    ]
    chance = thresholds.window_chance(
        reference.table, counts.rows, float(comparison.evidence.max())
    )
    verdict = Verdict.DRIFT if found else Verdict.OK
    return Judgement(verdict, tuple(found), chance)


def ranked(reference: Reference, comparison: Comparison, which: NDArray[np.bool_]) -> list[int]:
    """Indices where ``which``: the largest effect first; what sums up a tensor before its parts."""
    return sorted(
        np.flatnonzero(which).tolist(),
        key=lambda index: (
            -round(float(comparison.effect[index]), 2),
            not reference.series[index].summary,
            index,
        ),
    )


def _finding(
    reference: Reference,
    counts: Counts,
    comparison: Comparison,
    index: int,
    critical: float,
    floors: Floors,
) -> Finding:
    series = reference.series[index]
    effect = float(comparison.effect[index])
    statistic, value, threshold = _loudest(reference, comparison, index, critical)
    return Finding(
        series=series.name,
        kind="drift",
        statistic=statistic,
        value=value,
        threshold=threshold,
        p_value=thresholds.window_chance(
            reference.table, counts.rows, float(comparison.evidence[index])
        ),
        effect=effect,
        severity=Severity.CRITICAL if effect >= floors.critical else Severity.WARNING,
        detail=change(series, counts, index),
    )


def _loudest(
    reference: Reference, comparison: Comparison, index: int, critical: float
) -> tuple[str, float, float]:
    """The statistic with the smallest p-value, its value, and the value that would have sufficed."""
    p = 10.0**-critical / TESTS
    total = float(sum(reference.series[index].counts[:FINITE]))
    rows = float(comparison.rows[index])
    tails = {
        "ks": float(comparison.p_ks[index]),
        "chi_square": float(comparison.p_chi_square[index]),
        "rare_share": float(comparison.p_rare[index]),
    }
    statistic = min(tails, key=lambda name: tails[name])
    if statistic == "ks":
        effective = statistics.effective_rows(total, rows)
        _, least = statistics.bracket(lambda x: -statistics.ks_tail(x, effective), -p)
        return statistic, float(comparison.distance[index]), least
    if statistic == "chi_square":
        freedom = float(comparison.freedom[index])
        _, least = statistics.bracket(
            lambda x: -statistics.chi_square_tail(x, freedom), -p, high=1e5
        )
        return statistic, float(comparison.chi_square[index]), least
    share = rows / (total + rows)
    least = math.ceil(math.log(p) / math.log(share)) / rows
    return statistic, float(comparison.rare[index]), min(least, 1.0)
