"""Latency as counts in buckets: they merge exactly over versions, windows, devices."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from protos.limits import LATENCY_BUCKETS_SECONDS

_BOUNDS: Final[tuple[float, ...]] = LATENCY_BUCKETS_SECONDS

BUCKETS: Final = len(_BOUNDS) + 1
"""One for each upper bound, and a last one for what took longer than all of them."""


def bucket_of(seconds: float) -> int:
    """Index of the bucket: the first whose upper bound is not under ``seconds``."""
    return bisect_left(_BOUNDS, seconds)


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The ``q``-quantile in seconds, 0 < q <= 1; None without a count.

    Interpolated geometrically within its bucket, which spans a factor of two: the estimate is at
    most that factor off. In the last bucket, which has no end, it is the lower bound.
    """
    total = sum(counts)
    if total == 0:
        return None
    rank, below = q * total, 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            if index == BUCKETS - 1:
                break
            upper = _BOUNDS[index]
            return upper * math.pow(2.0, (rank - below) / count - 1.0)
        below += count
    return _BOUNDS[-1]
