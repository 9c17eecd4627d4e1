"""How strong evidence must be: from the table that registration calibrated for this very data.

The table holds quantiles of the *strongest* evidence over all series in healthy windows, not one
quantile a series. That controls the chance of any false finding in a window however the series
hang together (Westfall & Young's max-T), takes forty numbers instead of thousands, and a 99.9 %
quantile over all series can be estimated from a few thousand replays, while the 99.9993 % quantile
that each of 150 series would need can't. p-values make the series comparable beforehand.

Between window sizes it is linear in 1/n, above the largest constant: evidence is of p-values, which
hardly depend on n. Beyond the last quantile, evidence is taken to grow by at least one for each
factor of ten in chance, as -log10 of a p-value does.
"""

import math
from typing import Final

import numpy as np

from agent.monitor.reference import LEVELS, Table

SIZES: Final = (50, 100, 300, 1000, 3000)
"""Window sizes that registration replays."""

_CHANCES: Final = tuple(math.log10(1 - level) for level in LEVELS)


def _at(table: Table, quantiles: tuple[tuple[float, ...], ...], rows: float) -> list[float]:
    """Each level's quantile at ``rows``."""
    inverse = [1 / size for size in reversed(table.sizes)]
    return [
        float(np.interp(1 / max(rows, 1), inverse, [row[level] for row in reversed(quantiles)]))
        for level in range(len(LEVELS))
    ]


def _slope(quantiles: list[float]) -> float:
    """Evidence for each further factor of ten in chance, beyond the last quantile."""
    return max(1.0, quantiles[-1] - quantiles[-2])


def critical_evidence(table: Table, rows: float, chance: float) -> float:
    """Evidence that a healthy window of ``rows`` reaches in any series with probability ``chance``."""
    quantiles = _at(table, table.evidence, rows)
    wanted = math.log10(chance)
    if wanted < _CHANCES[-1]:
        return quantiles[-1] + (_CHANCES[-1] - wanted) * _slope(quantiles)
    falling = [-one for one in _CHANCES]
    return float(np.interp(-wanted, falling, quantiles))


def window_chance(table: Table, rows: float, evidence: float) -> float:
    """The p-value of a window: the probability that a healthy one shows such evidence anywhere.

    The inverse of ``critical_evidence``; 1 for less than healthy windows show half the time.
    """
    quantiles = _at(table, table.evidence, rows)
    if evidence > quantiles[-1]:
        log = _CHANCES[-1] - (evidence - quantiles[-1]) / _slope(quantiles)
        return float(10 ** max(log, -300.0))
    if evidence < quantiles[0]:
        return 1.0
    return float(10 ** np.interp(evidence, quantiles, _CHANCES))


def effect_floor(table: Table, rows: float, least: float) -> float:
    """``least``, or what healthy windows of ``rows`` show by chance once in a hundred, if more."""
    return max(least, _at(table, table.effect, rows)[LEVELS.index(0.99)])
