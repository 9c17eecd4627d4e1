"""What a full spool drops first.

Each kind has a share of the spool that no other can take: however many events there are, the newest
windows are told, and the other way round. What is beyond the shares goes first, the least valuable
kind before the others; within a kind, the oldest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LEAST_VALUABLE_FIRST: Final = ("resources", "window", "event", "report")

SHARES: Final[Mapping[str, int]] = {"resources": 5, "window": 40, "event": 25, "report": 30}
"""In percent of the records and of the bytes. They add up to 100, so a spool that is too full always
has a kind beyond its share."""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What a spool may hold."""

    records: int = 20_000
    size: int = 32 * 1024 * 1024  # bytes of payload


DEFAULT_LIMITS: Final = SpoolLimits()


@dataclass(slots=True)
class Totals:
    """What a spool holds: records and bytes of payload, by kind."""

    records: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, records: int, size: int) -> None:
        """So many more, or fewer."""
        self.records[kind] = self.records.get(kind, 0) + records
        self.sizes[kind] = self.sizes.get(kind, 0) + size


def next_to_go(totals: Totals, limits: SpoolLimits) -> str | None:
    """The kind whose oldest record goes next; None if the spool is within its limits."""
    for found, most in ((totals.records, limits.records), (totals.sizes, limits.size)):
        if sum(found.values()) > most:
            beyond = (one for one in LEAST_VALUABLE_FIRST if is_beyond(one, found, most))
            return next(beyond)
    return None


def is_beyond(kind: str, found: Mapping[str, int], most: int) -> bool:
    """Whether the kind has more than its share of ``most``."""
    return 100 * found.get(kind, 0) > SHARES[kind] * most


def check_kind(kind: str) -> None:
    """Returns if it is a kind of record.

    Raises:
        ValueError: it is none.
    """
    if kind not in LEAST_VALUABLE_FIRST:
        raise ValueError(f"{kind!r} is no kind of record; there are {LEAST_VALUABLE_FIRST}")
