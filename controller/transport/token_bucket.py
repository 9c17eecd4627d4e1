"""How often something may happen: a bucket that fills at a steady rate (pure)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """Attributes: how many at once, and how many a second in the long run."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """``level`` tokens at the time ``at``, in seconds of any clock that does not go backwards."""

    level: float
    at: float


def full(rate: Rate, now: float) -> Bucket:
    """The bucket of somebody new."""
    return Bucket(rate.burst, now)


def level(bucket: Bucket, rate: Rate, now: float) -> float:
    """How many tokens are in it at ``now``."""
    return min(rate.burst, bucket.level + max(0.0, now - bucket.at) * rate.per_second)


def take(bucket: Bucket, rate: Rate, now: float) -> Bucket:
    """The bucket with one token less, and never less than none."""
    return Bucket(max(0.0, level(bucket, rate, now) - 1.0), max(now, bucket.at))
