"""How sure a classifier is of its answers, and how right it may be: read from a window's counts.

CBPE, confidence-based performance estimation: on the reference it is known how often answers of each
confidence are right, so from the confidences of any data follows how many answers to expect to be
right, without a label. It can't see that the truth itself has changed for the same data.

Windows count the highest class probability in cells, and sums of it merge exactly; so the estimate
takes nothing but what devices tell anyway. Confidences are isotonic: of two cells, the surer one is
right at least as often (pool adjacent violators; Zadrozny and Elkan 2002).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.monitor.counts import Counts
from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS, FINITE, Reference, Take
from agent.runtimes.runtime import Tensors


@dataclass(frozen=True, slots=True)
class Estimator:
    """What one version's windows are read by.

    Attributes:
        profile_sha256: of the windows that it can read.
        index: of the series that counts the highest class probability.
        series: how many series such a window has.
        centre, unit: as in the profile's series.
        right: by cell, the share of right answers on the reference; empty if no truth was known.
    """

    profile_sha256: str
    index: int
    series: int
    centre: float
    unit: float
    right: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Of how many answers how much confidence was summed, and how many of them may be right.

    ``right`` is None where the version has no truth to go by.
    """

    answers: int
    confidence: float
    right: float | None


def estimator_of(
    reference: Reference, inputs: Tensors, outputs: Tensors, right: NDArray[np.bool_] | None
) -> Estimator | None:
    """The estimator of a version; None of one that gives no probabilities of classes.

    ``inputs`` and ``outputs`` are those that the reference was built from; ``right`` says of each
    row whether the answer is right.
    """
    found = [one for one in reference.sources if one.side == "output" and one.take is Take.TOP]
    if not found:
        return None
    index, _ = reference.of(found[0])
    series = reference.series[index]
    shares: tuple[float, ...] = ()
    if right is not None and len(right):
        cells = np.array(series.counts[:FINITE], np.float64)
        shares = _rising(cells, _hits(reference, index, inputs, outputs, right))
    return Estimator(
        reference.digest, index, len(reference.series), series.centre, series.unit, shares
    )


def estimator_by_hits(
    reference: Reference, rows: NDArray[np.float64], hits: NDArray[np.float64]
) -> Estimator | None:
    """As ``estimator_of``, where it is known how many answers of each cell there were, and were right."""
    found = [one for one in reference.sources if one.side == "output" and one.take is Take.TOP]
    if not found:
        return None
    index, _ = reference.of(found[0])
    series = reference.series[index]
    shares = _rising(rows[:FINITE], hits[:FINITE]) if rows[:FINITE].sum() else ()
    return Estimator(
        reference.digest, index, len(reference.series), series.centre, series.unit, shares
    )


def read(estimator: Estimator, counts: Sequence[int], sums: Sequence[float]) -> Reading | None:
    """What a window's ``counts`` and ``sums`` (``muster.v1.Window``) tell.

    None if they can't be of a confidence: no class is given a probability below 0 or above 1.
    """
    if len(counts) != estimator.series * CELLS or len(sums) != 4 * estimator.series:
        return None
    cells = counts[estimator.index * CELLS : estimator.index * CELLS + FINITE]
    answers, total = sum(cells), sums[4 * estimator.index]
    if not answers:
        return None
    mean = estimator.centre + estimator.unit * total / answers
    if not -1e-3 <= mean <= 1 + 1e-3:
        return None
    right = None
    if estimator.right:
        right = sum(count * share for count, share in zip(cells, estimator.right, strict=True))
    return Reading(answers, min(max(mean, 0.0), 1.0) * answers, right)


def _hits(
    reference: Reference, index: int, inputs: Tensors, outputs: Tensors, right: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How many right answers each cell of the reference has."""
    observer = Observer(reference)
    observer.observe(_where(right, inputs), _where(right, outputs))
    counts: Counts = observer.drain()
    return counts.cells[index, :FINITE].astype(np.float64)


def _where(right: NDArray[np.bool_], tensors: Tensors) -> dict[str, NDArray[Any]]:
    return {name: array[right] for name, array in tensors.items()}


def _rising(cells: NDArray[np.float64], hits: NDArray[np.float64]) -> tuple[float, ...]:
    """The share of hits by cell, made to rise; a cell without rows has that of the one before it."""
    blocks: list[list[float]] = []  # hits, rows, cells
    for rows, right in zip(cells.tolist(), hits.tolist(), strict=True):
        blocks.append([right, rows, 1])
        while len(blocks) > 1 and _share(blocks[-2]) >= _share(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
    known = [max(_share(block), 0.0) for block in blocks for _ in range(int(block[2]))]
    # Cells before the first that has rows have its share.
    before = min(int(cells.cumsum().searchsorted(1)), len(cells) - 1)
    return tuple(round(known[max(cell, before)], 6) for cell in range(len(known)))


def _share(block: Sequence[float]) -> float:
    return block[0] / block[1] if block[1] else -1.0
