"""What a full spool drops first: the least valuable kind; within a kind, the oldest."""

from dataclasses import dataclass
from typing import Final

LEAST_VALUABLE_FIRST: Final = ("resources", "window", "event", "report")


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What a spool may hold."""

    records: int = 20_000
    size: int = 32 * 1024 * 1024  # bytes of payload


DEFAULT_LIMITS: Final = SpoolLimits()


def check_kind(kind: str) -> None:
    """Returns if it is a kind of record.

    Raises:
        ValueError: it is none.
    """
    if kind not in LEAST_VALUABLE_FIRST:
        raise ValueError(f"{kind!r} is no kind of record; there are {LEAST_VALUABLE_FIRST}")
