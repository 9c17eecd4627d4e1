"""Who did what, as hash-chained records: each names the digest of the one before it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

GENESIS: Final = "0" * 64
"""What the first record names as its predecessor."""

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Entry:
    """What an action says of itself, before it has its place in the chain."""

    actor: str
    action: str  # "model.approve", "device.revoke"
    subject: str
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """One link of the chain. ``at`` is Unix milliseconds."""

    sequence: int
    at: int
    entry: Entry
    previous: str
    digest: str


def chain(entry: Entry, at: int, last: Record | None) -> Record:
    """The record that follows ``last``."""
    sequence = 1 if last is None else last.sequence + 1
    previous = GENESIS if last is None else last.digest
    return Record(sequence, at, entry, previous, _digest(sequence, at, entry, previous))


def broken_at(records: Iterable[Record]) -> int | None:
    """The sequence of the first record that does not follow, or None if the chain holds.

    A chain that was cut at its end still holds: compare the last digest with one that was noted
    elsewhere.
    """
    previous = GENESIS
    for sequence, record in enumerate(records, start=1):
        expected = _digest(record.sequence, record.at, record.entry, record.previous)
        follows = record.sequence == sequence and record.previous == previous
        if not follows or record.digest != expected:
            return sequence
        previous = record.digest
    return None


def _digest(sequence: int, at: int, entry: Entry, previous: str) -> str:
    body = (sequence, at, entry.actor, entry.action, entry.subject, dict(entry.detail), previous)
    return hashlib.sha256(_encode(body)).hexdigest()
