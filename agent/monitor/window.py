"""A window of one model version, and whether it closes now."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from agent.inference.traffic import TrafficCounts
from agent.monitor.counts import Counts
from agent.monitor.observer import Observer
from agent.monitor.reference import MIN_ROWS, Policy, Reference


class Watched(Protocol):
    """One model version that answers requests, as the monitor sees it."""

    @property
    def model(self) -> str: ...  # noqa: D102 - see the manifest

    @property
    def version(self) -> int: ...  # noqa: D102

    @property
    def manifest_sha256(self) -> str: ...  # noqa: D102

    @property
    def reference(self) -> Reference: ...  # noqa: D102

    @property
    def observer(self) -> Observer:
        """What every prediction of this version is shown to."""
        ...

    def drain_traffic(self) -> TrafficCounts:
        """The requests since it was last called."""
        ...


class Watch(Protocol):
    """Where the monitor finds what it watches."""

    def watched(self) -> Iterable[Watched]:
        """Every version that answers requests now."""
        ...


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """What one model version has seen since ``started_ms`` (Unix time). ``window_id`` is its own."""

    window_id: str
    model: str
    version: int
    manifest_sha256: str
    started_ms: int
    counts: Counts
    traffic: TrafficCounts = field(default_factory=TrafficCounts)

    def seeing(self, counts: Counts, traffic: TrafficCounts) -> "OpenWindow":
        """The window with more seen.

        Raises:
            ProfileMismatch: the counts are of another profile.
        """
        if not counts.rows and traffic == TrafficCounts():
            return self
        return replace(self, counts=self.counts + counts, traffic=together(self.traffic, traffic))

    @property
    def is_empty(self) -> bool:
        """Whether nothing has happened in it."""
        return self.counts.rows == 0 and self.traffic == TrafficCounts()


def together(one: TrafficCounts, other: TrafficCounts) -> TrafficCounts:
    """The traffic of both stretches."""
    return TrafficCounts(
        requests=one.requests + other.requests,
        failed=one.failed + other.failed,
        refused=one.refused + other.refused,
        latency_counts=tuple(
            mine + theirs
            for mine, theirs in zip(one.latency_counts, other.latency_counts, strict=True)
        ),
        latency_sum_seconds=one.latency_sum_seconds + other.latency_sum_seconds,
    )


def overridden(policy: Policy, rows: int, seconds: float) -> Policy:
    """The policy as the device's configuration changes it; 0 keeps what the bundle says."""
    least = seconds or policy.t_min_seconds
    return msgspec.structs.replace(
        policy,
        n_min=max(rows, MIN_ROWS) if rows else policy.n_min,
        t_min_seconds=least,
        t_max_seconds=max(policy.t_max_seconds, least),
    )


def closes(window: OpenWindow, policy: Policy, now_ms: int) -> bool:
    """Whether the window is over.

    It is when enough was seen over whole cycles, or when its longest time is over and anything was
    seen at all. A clock that was set back closes it, too: its times would make no sense.
    """
    if window.is_empty:
        return False
    open_seconds = (now_ms - window.started_ms) / 1000
    if open_seconds < 0 or open_seconds >= longest_seconds(policy):
        return True
    return window.counts.rows >= policy.n_min and open_seconds >= shortest_seconds(policy)


def shortest_seconds(policy: Policy) -> float:
    """How long a window is open at least: whole cycles."""
    return _whole_cycles(policy.t_min_seconds, policy.cycle_seconds)


def longest_seconds(policy: Policy) -> float:
    """How long a window is open at most: whole cycles."""
    return _whole_cycles(policy.t_max_seconds, policy.cycle_seconds)


def _whole_cycles(seconds: float, cycle: float) -> float:
    return max(1, math.ceil(seconds / cycle)) * cycle if cycle > 0 else seconds
