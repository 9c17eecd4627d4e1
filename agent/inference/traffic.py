"""What requests a deployment has had: totals that only grow, and their differences."""

from dataclasses import dataclass

from agent.inference.latency import BUCKETS, bucket_of, quantile


@dataclass(frozen=True, slots=True)
class TrafficCounts:
    """Counts over some stretch.

    Attributes:
        requests: fitted the signature; answered or failed.
        failed: of these, on how many the runtime failed.
        refused: did not fit the signature; not among ``requests``.
        latency_counts: of answers, in ``protos.limits.LATENCY_BUCKETS_SECONDS`` and one bucket more.
        latency_sum_seconds: of answers.
    """

    requests: int = 0
    failed: int = 0
    refused: int = 0
    latency_counts: tuple[int, ...] = (0,) * BUCKETS
    latency_sum_seconds: float = 0.0

    def since(self, earlier: "TrafficCounts") -> "TrafficCounts":
        """What came after ``earlier``, which is a snapshot of the same totals."""
        return TrafficCounts(
            requests=self.requests - earlier.requests,
            failed=self.failed - earlier.failed,
            refused=self.refused - earlier.refused,
            latency_counts=tuple(
                now - then
                for now, then in zip(self.latency_counts, earlier.latency_counts, strict=True)
            ),
            latency_sum_seconds=self.latency_sum_seconds - earlier.latency_sum_seconds,
        )

    @property
    def p99_seconds(self) -> float | None:
        """Of answers; None if there was none."""
        return quantile(self.latency_counts, 0.99)


class Traffic:
    """Running totals. Not guarded: whoever counts from several threads holds a lock."""

    __slots__ = ("_failed", "_latency", "_refused", "_seconds")

    def __init__(self) -> None:
        self._failed = 0
        self._refused = 0
        self._latency = [0] * BUCKETS
        self._seconds = 0.0

    def answered(self, seconds: float) -> None:
        """One request was answered in so many seconds."""
        self._latency[bucket_of(seconds)] += 1
        self._seconds += seconds

    def failed(self) -> None:
        """The runtime failed on one request."""
        self._failed += 1

    def refused(self) -> None:
        """One request did not fit the signature."""
        self._refused += 1

    def totals(self) -> TrafficCounts:
        """The totals so far."""
        return TrafficCounts(
            requests=sum(self._latency) + self._failed,
            failed=self._failed,
            refused=self._refused,
            latency_counts=tuple(self._latency),
            latency_sum_seconds=self._seconds,
        )
