"""What the plots of a report are drawn from: how many devices were doing what, when; bytes; failures.

However long it runs, only so many points are kept: when there are too many, every other one goes.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from simulations.fleet.queue import Queue

MOST_POINTS: Final = 1200


class Doing(StrEnum):
    """What a device does, as far as people watch it."""

    NOTHING = "runs nothing"
    RUNS = "runs"
    INSTALLING = "installs"
    PROBATION = "tries on requests"
    REFUSED = "has refused"


class Part(NamedTuple):
    """One kind of devices at one time: what they do with which version."""

    doing: Doing
    reference: str


@dataclass(frozen=True, slots=True)
class Point:
    """How things stood at a time; ``failures`` and bytes are sums since the beginning."""

    at: float
    parts: Mapping[Part, int]
    away: int
    failures: Mapping[str, int]
    down_bytes: int
    up_bytes: int
    fetched_bytes: int


@dataclass(slots=True)
class Tally:
    """Counts, and what they were.

    Attributes:
        parts: how many devices are in each part.
        away: how many have no link.
        failures: how many installs have failed, by code.
        down_bytes, up_bytes: of commands and of uploads; ``fetched_bytes`` of versions.
        ran, committed, failed: the numbers of the devices that ever did so, by version.
    """

    queue: Queue
    parts: Counter[Part] = field(default_factory=Counter)
    away: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    down_bytes: int = 0
    up_bytes: int = 0
    fetched_bytes: int = 0
    messages: int = 0
    ran: dict[str, set[int]] = field(default_factory=dict)
    committed: dict[str, set[int]] = field(default_factory=dict)
    failed: dict[str, set[int]] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    _apart: float = 1.0  # seconds between two points
    _waiting: bool = False

    def note(self) -> None:
        """Keeps how things stand, now or in a moment."""
        now = self.queue.now
        if self._waiting:
            return
        if self.points and now - self.points[-1].at < self._apart:
            self._waiting = True
            self.queue.at(self.points[-1].at + self._apart, self._late)
            return
        self._keep_and_thin()

    def _late(self) -> None:
        self._waiting = False
        self._keep_and_thin()

    def _keep_and_thin(self) -> None:
        self.keep()
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]
            self._apart *= 2

    def keep(self) -> None:
        """Keeps how things stand."""
        self.points.append(
            Point(
                self.queue.now,
                {part: count for part, count in self.parts.items() if count},
                self.away,
                dict(self.failures),
                self.down_bytes,
                self.up_bytes,
                self.fetched_bytes,
            )
        )

    def move(self, before: Part | None, after: Part) -> None:
        """A device does something else."""
        if before is not None:
            self.parts[before] -= 1
        self.parts[after] += 1
