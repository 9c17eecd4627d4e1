"""How small and how large a true share may be, of which some trials showed some hits.

``lower_bound`` and ``upper_bound`` are exact (C. J. Clopper and E. S. Pearson, The use of confidence
or fiducial limits illustrated in the case of the binomial, Biometrika 26, 1934): they never promise
more than they hold. Wilson's are closer to the middle and hold on average.
"""

import functools
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from agent.install.probation import wilson_lower as _wilson
from agent.monitor.statistics import beta_share, bracket


@functools.lru_cache(maxsize=4096)
def lower_bound(hits: int, trials: int, confidence: float) -> float:
    """The true share is above this, one-sided, with ``confidence``; 0.0 of nothing.

    >>> round(lower_bound(1, 3, 0.95), 4)  # one of three proves little
    0.017
    """
    _check(hits, trials, confidence)
    if hits == 0:
        return 0.0
    if hits == trials:
        return float((1 - confidence) ** (1 / trials))
    return _crossing(lambda share: beta_share(hits, trials - hits + 1, share), 1 - confidence)


@functools.lru_cache(maxsize=4096)
def upper_bound(hits: int, trials: int, confidence: float) -> float:
    """The true share is below this, one-sided, with ``confidence``; 1.0 of nothing.

    >>> round(upper_bound(0, 3, 0.95), 4)  # none of three promises little
    0.6316
    """
    _check(hits, trials, confidence)
    if hits == trials:
        return 1.0
    if hits == 0:
        return float(1 - (1 - confidence) ** (1 / trials))
    return _crossing(lambda share: beta_share(hits + 1, trials - hits, share), confidence)


def wilson_lower(hits: int, trials: int, confidence: float) -> float:
    """The lower end of Wilson's one-sided interval; 0.0 of nothing."""
    _check(hits, trials, confidence)
    return _wilson(hits, trials, NormalDist().inv_cdf(confidence))


def wilson_upper(hits: int, trials: int, confidence: float) -> float:
    """The upper end of Wilson's one-sided interval; 1.0 of nothing."""
    return 1.0 - wilson_lower(trials - hits, trials, confidence)


def _check(hits: int, trials: int, confidence: float) -> None:
    if not 0 <= hits <= trials or not 0.5 <= confidence < 1:
        raise ValueError(f"{hits} of {trials} with confidence {confidence}")


def _crossing(rising: Callable[[NDArray[np.float64]], NDArray[np.float64]], level: float) -> float:
    """Where a function that rises from 0 at 0 to 1 at 1 crosses ``level``."""
    low, high = bracket(rising, level)
    return (low + high) / 2
