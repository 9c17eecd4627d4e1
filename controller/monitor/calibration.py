"""Thresholds from the reference itself: what healthy windows of each size show by chance.

The reference is cut into blocks of neighbouring rows, so that what hangs together in time stays
together, and each block is counted by the agent's own observer. Counts merge exactly; so a window is
the sum of blocks drawn at random, and thousands of them are one matrix product. Both sides are
drawn anew (a window, and a reference to compare it with), since the true law is as unknown to a
device's window as to the reference: drawing the window alone would understate chance by a factor
of up to sqrt(2).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.monitor.comparison import compare, numeric_series, pooling
from agent.monitor.counts import Counts
from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS, FINITE, LEVELS, Reference, Table
from agent.monitor.thresholds import SIZES

REPLAYS: Final = 4000
"""Windows of each size; fewer where there are many series, and at least a quarter of them."""
BUDGET: Final = 600_000
"""Series times windows of each size."""
MAX_BLOCKS: Final = 800
CHUNK_CELLS: Final = 4_000_000
"""Counts in memory at a time: 16 MB."""
DIGITS: Final = 4

Blocks = NDArray[np.float32]  # [blocks, series * CELLS]


@dataclass(frozen=True, slots=True)
class Rows:
    """The reference's tensors by name; every array has ``count`` rows."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    count: int

    def between(self, start: int, end: int) -> "Rows":
        """Some of the rows."""
        return Rows(
            {name: array[start:end] for name, array in self.inputs.items()},
            {name: array[start:end] for name, array in self.outputs.items()},
            end - start,
        )

    def shuffled(self, rng: np.random.Generator) -> "Rows":
        """The rows in an order of chance."""
        order = rng.permutation(self.count)
        return Rows(
            {name: array[order] for name, array in self.inputs.items()},
            {name: array[order] for name, array in self.outputs.items()},
            self.count,
        )


def block_rows(rows: int) -> int:
    """How many neighbours are kept together: the more rows, the more; a divisor of every SIZES."""
    return 25 if rows >= 5000 else 10 if rows >= 1000 else 5


def counted(observer: Observer, rows: Rows) -> Counts:
    """``rows`` as the agent counts them."""
    observer.observe(rows.inputs, rows.outputs)
    return observer.drain()


def count_blocks(observer: Observer, rows: Rows) -> Blocks:
    """Counts of each block; of some, evenly spread, where there are very many."""
    length = block_rows(rows.count)
    starts = np.arange(0, rows.count - length + 1, length)
    if len(starts) > MAX_BLOCKS:
        starts = starts[np.linspace(0, len(starts) - 1, MAX_BLOCKS).astype(int)]
    blocks = [counted(observer, rows.between(int(at), int(at) + length)) for at in starts]
    return np.stack([block.cells.ravel() for block in blocks]).astype(np.float32)


def dispersion(blocks: Blocks, series: int) -> float:
    """How much more the blocks' averages vary than independent rows' would: about 1 if they are.

    The design effect (Kish 1965) of the mean cell, of the series for which it is largest.
    """
    cells = blocks.reshape(len(blocks), series, CELLS)[:, :, :FINITE].astype(np.float64)
    place = np.arange(FINITE)
    rows = np.maximum(cells.sum(axis=2), 1)
    means = (cells @ place) / rows
    whole = cells.sum(axis=0)
    share = whole / np.maximum(whole.sum(axis=1, keepdims=True), 1)
    variance = share @ np.square(place) - np.square(share @ place)
    varied = variance > 1e-9
    if not varied.any():
        return 1.0
    spread = means.var(axis=0) * rows.mean(axis=0)
    return float((spread[varied] / variance[varied]).max())


def calibrate(
    reference: Reference, blocks: Blocks, cells: NDArray[np.int64], rng: np.random.Generator
) -> Table:
    """The table for ``reference``, whose counts are ``cells`` [S, CELLS]."""
    series = len(cells)
    replays = int(np.clip(BUDGET // series, REPLAYS // 4, REPLAYS))
    numeric = numeric_series(reference)
    evidence, effect = [], []
    for size in SIZES:
        strongest, largest = _replayed(blocks, cells, numeric, size, replays, rng)
        evidence.append(_quantiles(strongest))
        effect.append(_quantiles(largest))
    return Table(sizes=SIZES, evidence=tuple(evidence), effect=tuple(effect))


def _replayed(
    blocks: Blocks,
    cells: NDArray[np.int64],
    numeric: NDArray[np.bool_],
    size: int,
    replays: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The strongest evidence and the largest effect in each of ``replays`` windows of ``size``."""
    block = round(float(blocks[0, :CELLS].sum()))
    drawn = size // block, max(1, round(int(cells[0].sum()) / block))
    pooled = pooling(cells, size)
    chunk = max(1, CHUNK_CELLS // cells.size)
    strongest, largest = [], []
    for start in range(0, replays, chunk):
        count = min(chunk, replays - start)
        window, other = (
            (_draw(rng, len(blocks), times, count) @ blocks).reshape(count, *cells.shape)
            for times in drawn
        )
        compared = compare(other, window, numeric, pooled)
        strongest.append(compared.evidence.max(axis=1))
        largest.append(compared.effect.max(axis=1))
    return np.concatenate(strongest), np.concatenate(largest)


def _draw(rng: np.random.Generator, blocks: int, times: int, count: int) -> NDArray[np.float32]:
    """How often each block is drawn, for ``count`` draws of ``times`` blocks with replacement."""
    picked = rng.integers(0, blocks, (count, times)) + blocks * np.arange(count)[:, None]
    return (
        np.bincount(picked.ravel(), minlength=count * blocks)
        .reshape(count, blocks)
        .astype(np.float32)
    )


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(one), DIGITS) for one in np.quantile(values, LEVELS))
