"""From the samples of a group to the numbers that are compared, and to words for them."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from controller.rollout.gate.comparison import AGREEMENT, Measured
from controller.rollout.gate.evidence import Sample
from controller.rollout.policy import HIGHER_IS_BETTER, Metric

HALF_WEIGHT: Final = 100
"""A device that has answered so many weighs half of one that has answered any number."""
MINIMUM_INFERENCES: Final = 30
"""A device that has answered fewer says nothing."""
_A_WINDOW: Final = 300
"""About so many inferences are one window, of which shares of windows are made."""
_LONGEST: Final = 3600.0  # seconds; no device takes longer, whatever it says
_OF_WINDOWS: Final = frozenset({Metric.DATA_QUALITY, Metric.DRIFT})


def told(samples: Sequence[Sample], metric: Metric) -> list[Sample]:
    """Those whose device reports a value that can be one."""
    return [one for one in samples if _possible(metric, one.values.get(metric))]


def weight(sample: Sample, metric: Metric, least: int) -> float:
    """How much the device's value counts, from 0 to 1; nothing below ``least`` inferences."""
    if sample.inferences < max(least, 1) or not _possible(metric, sample.values.get(metric)):
        return 0.0
    return sample.inferences / (sample.inferences + HALF_WEIGHT)


def measured(samples: Sequence[Sample], metric: Metric, least: int) -> Measured:
    """The metric of every device that counts."""
    weights = [weight(one, metric, least) for one in samples]
    kept = [one.values[metric] for one, much in zip(samples, weights, strict=True) if much]
    return Measured(
        values=np.array(kept, np.float64),
        weights=np.array([much for much in weights if much], np.float64),
    )


def noise(metric: Metric, share: float, samples: Sequence[Sample], least: int) -> float:
    """How far one device's share is off by counting so little; 0 of what is no share."""
    if metric is not Metric.ERROR_RATE and metric not in _OF_WINDOWS:
        return 0.0
    counts = [one.inferences for one in samples if weight(one, metric, least)]
    trials = float(np.median(counts)) if counts else 1.0
    if metric in _OF_WINDOWS:
        trials = max(trials / _A_WINDOW, 1.0)
    share = min(share, 1.0)
    return math.sqrt(share * (1 - share) / trials)


def agreement(metric: Metric, value: float) -> float:
    """Few devices that show about ``value`` are never taken to agree better than within this."""
    return AGREEMENT * (value if metric is Metric.LATENCY_P99 else min(value, abs(1 - value)))


def shown(metric: Metric, value: float) -> str:
    """The value for a person: "48 ms", "2.1 %", "0.934".

    >>> shown(Metric.LATENCY_P99, 0.0484), shown(Metric.ERROR_RATE, 0.021)
    ('48.4 ms', '2.1 %')
    """
    if metric is Metric.LATENCY_P99:
        return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
    if metric in HIGHER_IS_BETTER:
        return f"{value:.3f}"
    return f"{100 * value:.3g} %"


def _possible(metric: Metric, value: float | None) -> bool:
    largest = _LONGEST if metric is Metric.LATENCY_P99 else 1.0
    return value is not None and 0 <= value <= largest  # nor NaN
