"""Counts every prediction: cheap where a request waits, vectorised where none does."""

from collections import deque
from collections.abc import Callable
from operator import methodcaller
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.datatypes import DATATYPES
from agent.monitor.binning import Binner, Part, TextBinner
from agent.monitor.columns import columns, is_text, precision, texts, thinned
from agent.monitor.counts import Counts, empty
from agent.monitor.reference import Reference, Source
from agent.runtimes.runtime import Tensors

HELD_ROWS: Final = 1024
HELD_BYTES: Final = 4 * 1024 * 1024
"""A request that finds so much held counts it itself: memory is bounded, no prediction is left out."""

Held = list[Any]  # for each source: the bytes of its rows, or the texts
_RAW_COPY: Final = methodcaller("tobytes")


class Observer:
    """Counts predictions of one model version.

    ``observe`` copies and returns; ``drain`` counts. Both may be called from any thread at any
    time, and no lock is held while counting: each row is taken from one queue exactly once, and
    what has been counted waits in another to be added up.

    Attributes:
        profile: digest of the reference profile.
        misfits: requests left out because they were not of the profile's dtypes and shapes.
    """

    __slots__ = (
        "_counted", "_held", "_inputs", "_limit", "_outputs", "_reference", "_rows", "_sources",
        "misfits", "profile",
    )  # fmt: skip

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self.profile = reference.digest
        self.misfits = 0
        ordered = sorted(reference.sources, key=lambda source: source.side)  # input, output
        self._sources = [_Tap(source, reference) for source in ordered]
        self._inputs = [tap for tap in self._sources if tap.source.side == "input"]
        self._outputs = [tap for tap in self._sources if tap.source.side == "output"]
        self._held: deque[Held] = deque()
        self._counted: deque[Counts] = deque()
        row = sum(tap.row_bytes for tap in self._sources)
        self._limit = max(1, min(HELD_ROWS, HELD_BYTES // max(1, row))) * self._sources[0].row_bytes
        self._rows = 0

    def observe(self, inputs: Tensors, outputs: Tensors) -> None:
        """Takes note of one request's rows; a copy is taken, the arrays may change afterwards.

        The tensors are those of the signature; others are ignored.
        """
        held = [tap.copy(inputs[tap.name]) for tap in self._inputs]
        held += [tap.copy(outputs[tap.name]) for tap in self._outputs]
        self._held.append(held)
        # Two threads may lose an addition here: then the limit is met a request later.
        self._rows += len(held[0])
        if self._rows >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Counts what is held."""
        self._rows = 0
        taken: list[Held] = []
        try:
            while True:
                taken.append(self._held.popleft())
        except IndexError:
            pass
        if taken:
            self._counted.append(self._count(taken))
            if len(self._counted) > 1:
                self._counted.append(self._gathered())

    def drain(self) -> Counts:
        """The counts of everything observed since the last drain."""
        self.flush()
        return self._gathered()

    def _gathered(self) -> Counts:
        total = empty(self.profile, len(self._reference.series))
        try:
            while True:
                total += self._counted.popleft()
        except IndexError:
            return total

    def _count(self, taken: list[Held]) -> Counts:
        batches = list(zip(*taken, strict=True))
        rows = {tap.rows(batch) for tap, batch in zip(self._sources, batches, strict=True)}
        if len(rows) != 1 or None in rows:
            if len(taken) > 1:
                total = empty(self.profile, len(self._reference.series))
                return sum((self._count([one]) for one in taken), total)
            self.misfits += 1
            return empty(self.profile, len(self._reference.series))
        counts = empty(self.profile, len(self._reference.series))
        if rows == {0}:
            return counts
        for tap, batch in zip(self._sources, batches, strict=True):
            cells, sums, least, greatest = tap.count(batch)
            counts.cells[tap.span] = cells
            counts.sums[tap.span] = sums
            counts.least[tap.span] = least
            counts.greatest[tap.span] = greatest
        (known,) = rows
        return Counts(
            counts.profile,
            int(known or 0),
            counts.cells,
            counts.sums,
            counts.least,
            counts.greatest,
        )


class _Tap:
    """Takes one source's rows from requests, and counts them."""

    __slots__ = (
        "_binner",
        "_text",
        "_thin",
        "copy",
        "dtype",
        "name",
        "row_bytes",
        "source",
        "span",
    )

    def __init__(self, source: Source, reference: Reference) -> None:
        start, end = reference.of(source)
        series = reference.series[start:end]
        self.source = source
        self.name = source.tensor
        self.span = slice(start, end)
        self.dtype = DATATYPES[source.dtype].numpy
        thin = thinned(source, np.empty((1, *source.shape), np.bool_))
        self._thin = thin.shape[1:]
        self.row_bytes = thin.size * (1 if is_text(source) else self.dtype.itemsize)
        self._text = is_text(source)
        self._binner: Any = TextBinner(series) if self._text else Binner(series, precision(source))
        self.copy: Callable[[NDArray[Any]], Any] = _RAW_COPY
        if self._text:
            self.copy = self._copy_texts
        elif source.stride > 1:
            self.copy = self._copy_thinned

    def _copy_texts(self, tensor: NDArray[Any]) -> Any:
        return tensor.ravel().tolist()

    def _copy_thinned(self, tensor: NDArray[Any]) -> Any:
        return thinned(self.source, tensor.reshape(-1, *self.source.shape)).tobytes()

    def rows(self, batch: tuple[Any, ...]) -> int | None:
        """How many rows were copied; None if they are no whole number of rows."""
        rows, rest = divmod(sum(map(len, batch)), self.row_bytes)
        return None if rest else rows

    def count(self, batch: tuple[Any, ...]) -> Part:
        """The counts of copied rows."""
        if self._text:
            values = np.array([text for one in batch for text in one], object)
            return self._binner.count(texts(values.reshape(-1, *self._thin)))  # type: ignore[no-any-return]
        rows = np.frombuffer(b"".join(batch), self.dtype).reshape(-1, *self._thin)
        return self._binner.count(columns(self.source, rows))  # type: ignore[no-any-return]
