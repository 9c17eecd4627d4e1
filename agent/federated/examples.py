"""The seam to the examples that a device keeps of its models. They never leave the device.

What is kept, what goes, and what is held out is decided here and in ``retention``; a store only keeps.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from agent.federated.layout import TRUTH, Array, Layout
from agent.federated.retention import Retention
from protos.limits import MIB

CHUNK_ROWS: Final = 256
CHUNK_BYTES: Final = 1 * MIB
SOURCE_BYTES: Final = 16
NO_GROUP: Final = -1


class Part(StrEnum):
    """Which of two parts an example is of, from its first moment to its last."""

    TRAINING = "training"
    HELD_OUT = "held-out"  # training never sees it


@dataclass(frozen=True, slots=True)
class Example:
    """One row.

    Attributes:
        data: as ``Layout`` packs it.
        at: when its truth was told, in Unix seconds.
        part: see ``part_of``.
        group: its class, or ``NO_GROUP``: no group may push the others out.
        rank: what has the lowest in its group goes first.
        source: where it came from; the same source again takes the place of what it told before.
    """

    data: bytes
    at: float
    part: Part
    group: int
    rank: float
    source: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """How many examples there are of a model and layout, and their bytes."""

    training: int = 0
    held_out: int = 0
    size: int = 0

    @property
    def examples(self) -> int:
        """Of both parts."""
        return self.training + self.held_out


class ExampleStore(Protocol):
    """Examples by model and layout. Every method may be called from any thread.

    A store survives a power cut whole, but the last moments before it may be lost: an example is one
    of many, and each write that waits for the disk wears it.

    Every method raises ``StoreError`` if the disk can't be read or written, ``DiskFull`` if it is full.
    """

    def add(self, model: str, layout: Layout, examples: Sequence[Example]) -> float:
        """Keeps them, and lets go what is beyond the store's ``Retention`` for the model.

        Returns the rank below which an example of the largest group would go at once; minus infinity
        while there is room.
        """
        ...

    def held(self, model: str, layout: Layout) -> Held:
        """What there is to learn from."""
        ...

    def rows(self, model: str, layout: Layout, part: Part) -> Iterator[bytes]:
        """Every example of that part, in the order in which they came, some rows in each piece.

        What comes or goes in the meantime may or may not be in it.
        """
        ...

    def models(self) -> Sequence[tuple[str, Held]]:
        """What is kept of every model, in all layouts, by name."""
        ...

    def expire(self, now: float) -> int:
        """Lets go what is too old; returns how many."""
        ...

    def clear(self, model: str = "") -> int:
        """Forgets all examples of a model, of every one if none is named; returns how many.

        Nothing of them is left in the file.
        """
        ...

    def close(self) -> None:
        """Closes the store. May be called twice."""
        ...


def rows_at_once(layout: Layout) -> int:
    """How many rows stand in one piece that a store gives: one at least, however large."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // layout.row_bytes))


def part_of(data: bytes, share: float) -> Part:
    """Which part a row is of: by a hash of its inputs, so that the same row is always of the same.

    It is so on every device, too: what one holds out, none of them trains on.
    """
    drawn = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") / 2**64
    return Part.HELD_OUT if drawn < share else Part.TRAINING


def examples_of(
    layout: Layout,
    rows: Array,
    retention: Retention,
    at: float,
    source: str,
    ranks: Sequence[float] | None = None,
) -> list[Example]:
    """Examples of packed ``rows``.

    ``source`` names where they came from; ``ranks`` replaces the time as what decides who stays.
    """
    return [
        Example(
            data=row.tobytes(),
            at=at,
            part=part_of(_inputs(layout, row), retention.hold_out),
            group=_group(layout, row),
            rank=at if ranks is None else ranks[index],
            source=hashlib.blake2b(f"{source}/{index}".encode(), digest_size=SOURCE_BYTES).digest(),
        )
        for index, row in enumerate(rows)
    ]


def _inputs(layout: Layout, row: Array) -> bytes:
    return b"".join(row[field.name].tobytes() for field in layout.inputs)


def _group(layout: Layout, row: Array) -> int:
    if layout.truth is None or layout.truth.datatype != "INT64" or layout.truth.shape:
        return NO_GROUP
    return int(row[TRUTH])
