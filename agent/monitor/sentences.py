"""Findings in words: what moved, from what, to what."""

import math
from typing import Final

import numpy as np

from agent.monitor.counts import Counts
from agent.monitor.reference import BINS, FINITE, FIRST, OTHER, Kind, Series

_STATISTICS: Final = {
    "mean": "mean of {}",
    "std": "contrast of {}",
    "laplacian": "sharpness of {}",
    "gradient": "edge strength of {}",
    "dark": "dark share of {}",
    "bright": "saturated share of {}",
    "confidence": "confidence of {}",
    "top": "most probable class of {}",
}
_FEW: Final = 0.15
"""A mean that moved by less, in standard deviations of the reference, is not what changed."""


def title(series: Series) -> str:
    """What the series is, for a person: "mean of image", "image[3,4]"."""
    tensor, _, statistic = series.name.rpartition(".")
    if series.summary and statistic in _STATISTICS:
        return _STATISTICS[statistic].format(tensor)
    return series.name


def moments(series: Series, rows: float, total: float, squares: float) -> tuple[float, float]:
    """Mean and standard deviation, of ``rows`` finite values with these sums of z and z²."""
    mean = total / max(rows, 1)
    variance = max(squares / max(rows, 1) - mean * mean, 0.0)
    return series.centre + series.unit * mean, series.unit * math.sqrt(variance)


def change(series: Series, counts: Counts, index: int) -> str:
    """The sentence for a series that has moved."""
    name = title(series)
    finite = float(counts.cells[index, :FINITE].sum())
    texts = any(isinstance(one, str) for one in series.categories)
    if not texts:
        reference = moments(series, float(sum(series.counts[:FINITE])), *series.sums[:2])
        window = moments(series, finite, *map(float, counts.sums[index]))
        nominal = series.kind is Kind.CATEGORICAL and series.summary
        if not nominal and abs(window[0] - reference[0]) > _FEW * reference[1]:
            verb = "rose" if window[0] > reference[0] else "fell"
            return f"{name} {verb} from {_figure(reference[0])} to {_figure(window[0])}"
        ratio = window[1] / reference[1] if reference[1] > 0 else 1.0
        if not nominal and not 0.87 < ratio < 1.15:
            verb = "grew" if ratio > 1 else "shrank"
            spread = f"{_figure(reference[1])} to {_figure(window[1])}"
            return f"spread of {name} {verb} from {spread}"
    return _share_change(series, counts, index, name)


def _share_change(series: Series, counts: Counts, index: int, name: str) -> str:
    before = np.array(series.counts[:FINITE], np.float64)
    after = counts.cells[index, :FINITE].astype(np.float64)
    before, after = before / max(before.sum(), 1), after / max(after.sum(), 1)
    cell = int(np.abs(after - before).argmax())
    verb = "rose" if after[cell] > before[cell] else "fell"
    share = f"share of {_cell(series, cell)} in {name}"
    return f"{share} {verb} from {percent(before[cell])} to {percent(after[cell])}"


def _cell(series: Series, cell: int) -> str:
    at = cell - FIRST
    if series.kind is Kind.CATEGORICAL:
        if 0 <= at < len(series.categories):
            one = series.categories[at]
            return repr(one) if isinstance(one, str) else _figure(one)
        return "values unknown to the reference" if cell == OTHER else "values out of range"
    if 0 <= at < min(len(series.edges) - 1, BINS):
        return f"{_figure(series.edges[at])} to {_figure(series.edges[at + 1])}"
    return "values out of range"


def percent(share: float) -> str:
    """A share for a person: "12 %", "0.3 %"."""
    hundredths = 100 * share
    return f"{hundredths:.0f} %" if hundredths >= 10 or hundredths == 0 else f"{hundredths:.2g} %"


def _figure(value: float) -> str:
    """A number for a person: 0.31, 14.8, 1250."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    text = f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
