"""What a device has told of a version in all, after each upload of windows: gates read no payloads.

Totals only grow, so what was told since some moment is one total less another, however many windows
lie between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add, attrgetter
from typing import Any, Final, Self

from agent.inference.latency import BUCKETS, quantile
from controller.monitor.estimator import Estimator, Reading, read
from controller.telemetry.record import StoredWindow
from protos.v1 import telemetry_pb2


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over windows.

    Attributes:
        judged: windows with enough data to be judged.
        faulty, moved: of these, whose data were faulty, and had moved.
        requests, failed: as in ``StoredWindow``.
        answers, confidence: over how many answers how much confidence.
        estimated, right: over how many answers how many may be right.
        latency_counts: of answers, in ``protos.limits.LATENCY_BUCKETS_SECONDS`` and one bucket more.
    """

    judged: int = 0
    faulty: int = 0
    moved: int = 0
    requests: int = 0
    failed: int = 0
    answers: int = 0
    confidence: float = 0.0
    estimated: int = 0
    right: float = 0.0
    latency_counts: tuple[int, ...] = (0,) * BUCKETS

    def __add__(self, other: Self) -> Self:
        return self._with(other, 1)

    def __sub__(self, other: Self) -> Self:
        return self._with(other, -1)

    def _with(self, other: Self, sign: int) -> Self:
        plain = [one + sign * more for one, more in zip(self.plain, other.plain, strict=True)]
        counts = zip(self.latency_counts, other.latency_counts, strict=True)
        return self.of(plain, [one + sign * more for one, more in counts])

    @classmethod
    def of(cls, plain: Sequence[Any], latency_counts: Sequence[int]) -> Self:
        """The inverse of ``plain`` and ``latency_counts``."""
        named = dict(zip(_PLAIN, plain, strict=True))
        return cls(**named, latency_counts=tuple(latency_counts))

    @property
    def plain(self) -> tuple[Any, ...]:
        """The fields before ``latency_counts``, in their order."""
        return _plain(self)

    @property
    def p99_seconds(self) -> float | None:
        """Of answers; None if there was none."""
        return quantile(self.latency_counts, 0.99)


_PLAIN: Final = tuple(one.name for one in fields(Sums))[:-1]
_plain: Final = attrgetter(*_PLAIN)


@dataclass(frozen=True, slots=True)
class Total:
    """The sums of one device and version up to the end of its newest window."""

    device: str
    model: str
    version: int
    ended_ms: int
    sums: Sums


def total_after(
    last: Total | None, windows: Sequence[StoredWindow], estimator: Estimator | None
) -> Total:
    """The total after windows of one device and version that were told together; at least one.

    ``last`` is the newest total before. Windows that end no later than it, because a clock was set
    or they were kept long, count as if they had ended just after it.
    """
    first = windows[0]
    sums = reduce(add, (sums_of(window, estimator) for window in windows))
    ended_ms = max(window.ended_ms for window in windows)
    if last is not None:
        sums, ended_ms = last.sums + sums, max(ended_ms, last.ended_ms + 1)
    return Total(first.device, first.model, first.version, ended_ms, sums)


def sums_of(window: StoredWindow, estimator: Estimator | None) -> Sums:
    """One window's. Its payload was checked when it was accepted."""
    message = telemetry_pb2.Window.FromString(window.payload)
    known = estimator is not None and estimator.profile_sha256 == window.profile_sha256
    reading = read(estimator, message.counts, message.sums) if estimator and known else None
    reading = reading or Reading(0, 0.0, None)
    verdict = telemetry_pb2.Verdict
    faulty = window.verdict == verdict.VERDICT_BAD_DATA
    moved = window.verdict == verdict.VERDICT_DRIFT
    return Sums(
        judged=int(faulty or moved or window.verdict == verdict.VERDICT_OK),
        faulty=int(faulty),
        moved=int(moved),
        requests=window.requests,
        failed=min(window.failed, window.requests),
        answers=reading.answers,
        confidence=reading.confidence,
        estimated=reading.answers if reading.right is not None else 0,
        right=reading.right or 0.0,
        latency_counts=tuple(message.traffic.latency_counts) or (0,) * BUCKETS,
    )
