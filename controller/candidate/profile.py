"""The candidate's reference profile: what the fleet's data are like now, by sums alone.

No row has left a device, so no reference data can be counted anew. What is known: the windows of the
parent, whose cells for the inputs stay as they are; and the evaluation on what devices hold out, which
tells the candidate's own answers: how often it says which class, and how sure it is. The parent's
answers in the windows say nothing of the candidate's.

Thresholds are calibrated for it as at a registration, with blocks drawn from the windows: a block is
of one window, for what hangs together in time and place stays together; within it, rows are drawn from
the window's cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.federated.evaluation import BINS, Evaluation
from agent.monitor.counts import Counts
from agent.monitor.reference import (
    CELLS,
    FIRST,
    OTHER,
    Kind,
    Reference,
    Series,
    Source,
    Take,
)
from controller.candidate.errors import NoCandidate
from controller.candidate.trained import confusion
from controller.monitor.calibration import MAX_BLOCKS, block_rows, calibrate, dispersion
from controller.monitor.estimator import Estimator, estimator_by_hits
from controller.monitor.merge import merged
from controller.monitor.profile import MIN_REFERENCE_ROWS
from protos.manifest import Semantic

SUREST: Final = 1.001
"""The upper edge of confidences: rounding may lead above one."""

Labels = Sequence[int | str]
Cells = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CandidateProfile:
    """The profile, how accuracy is estimated from its windows, and what a person should know."""

    reference: Reference
    estimator: Estimator | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the candidate answers on what devices hold out.

    Attributes:
        evaluation: its counts.
        labels: of the classes, in the order of the output's columns.
    """

    evaluation: Evaluation
    labels: Labels


def candidate_profile(
    parent: Reference, windows: Sequence[Counts], answers: Answers, rng: np.random.Generator
) -> CandidateProfile:
    """The profile of a candidate; the parent's own where the windows are too few.

    Args:
        parent: the profile that the windows are of.
        windows: of devices that are not broken.
        answers: of the candidate.
        rng: for the calibration.

    Raises:
        NoCandidate: nothing that can be watched is left.
    """
    together = merged(windows)
    needed = max(parent.policy.n_min, MIN_REFERENCE_ROWS)
    if together is None or together.rows < needed:
        told = 0 if together is None else together.rows
        note = (
            f"the reference profile is the parent's: devices have told of {told:,} predictions, "
            f"and {needed:,} are needed for one of their data now"
        )
        return CandidateProfile(parent, None, (note,))
    sources, series, notes = _series(parent, together, answers)
    if not series:
        raise NoCandidate("nothing of the parent's profile can be watched on by the same cells")
    draft = msgspec.structs.replace(
        parent, rows=together.rows, sources=tuple(sources), series=tuple(series)
    )
    cells = np.array([one.counts for one in series], np.int64)
    blocks = _blocks(_kept(parent, sources), windows, cells, rng)
    reference = msgspec.structs.replace(
        draft,
        table=calibrate(draft, blocks, cells, rng),
        dispersion=round(dispersion(blocks, len(series)), 3),
    )
    said = f"the reference profile is of {together.rows:,} predictions that devices told of last"
    return CandidateProfile(reference, _estimator(reference, answers), (said, *notes))


def _series(
    parent: Reference, together: Counts, answers: Answers
) -> tuple[list[Source], list[Series], list[str]]:
    """The sources that are watched on, with their series counted, and notes on the others."""
    sources: list[Source] = []
    series: list[Series] = []
    notes = []
    for source in parent.sources:
        start, end = parent.of(source)
        if source.side == "input":
            found = [_counted(parent.series[at], together, at) for at in range(start, end)]
        else:
            found = list(_answered(source, parent.series[start:end], answers, together.rows))
        if len(found) == end - start:
            sources.append(source)
            series += found
        else:
            notes.append(
                f"output {source.tensor!r} is not watched: its evaluation does not tell how it lies"
            )
    return sources, series, notes


def _counted(series: Series, together: Counts, at: int) -> Series:
    least, greatest = float(together.least[at]), float(together.greatest[at])
    finite = np.isfinite(least) and np.isfinite(greatest)
    return msgspec.structs.replace(
        series,
        counts=tuple(together.cells[at].tolist()),
        sums=(
            int(together.sums[at, 0]),
            int(together.sums[at, 1]),
            least if finite else 0.0,
            greatest if finite else 0.0,
        ),
    )


def _answered(
    source: Source, series: Sequence[Series], answers: Answers, rows: int
) -> Iterator[Series]:
    """The series of an output as the candidate answers, as many as can be told."""
    cells = confusion(answers.evaluation)
    said = cells.sum(axis=0)
    known = bool(said.sum()) and len(said) == len(answers.labels)
    if source.semantic is Semantic.LABEL and len(series) == 1 and known:
        yield _classes(series[0], answers.labels, said, rows)
    elif source.take is Take.TOP and any(answers.evaluation.confidences):
        yield _confidences(series[0], answers.evaluation, rows)
        if len(series) > 1 and known:
            yield _classes(series[1], range(len(said)), said, rows)


def _classes(series: Series, labels: Labels, said: Cells, rows: int) -> Series:
    """How often which class is said."""
    cells = np.zeros(CELLS, np.int64)
    for label, count in zip(labels, said.tolist(), strict=True):
        if label in series.categories:
            cells[FIRST + series.categories.index(label)] += count
        else:
            cells[OTHER] += count
    cells = _apportioned(cells, rows)
    numbers = [one for one in series.categories if isinstance(one, float)]
    counts = cells[FIRST : FIRST + len(numbers)]
    return msgspec.structs.replace(
        series, counts=tuple(cells.tolist()), sums=_sums(series, numbers, counts)
    )


def _confidences(series: Series, evaluation: Evaluation, rows: int) -> Series:
    """How often it is how sure, in the evaluation's bins."""
    cells = np.zeros(CELLS, np.int64)
    cells[FIRST : FIRST + BINS] = evaluation.confidences
    cells = _apportioned(cells, rows)
    edges = [number / BINS for number in range(BINS)]
    middles = [edge + 0.5 / BINS for edge in edges]
    made = msgspec.structs.replace(
        series,
        kind=Kind.NUMERIC,
        edges=(*edges, SUREST),
        categories=(),
        counts=tuple(cells.tolist()),
    )
    sums = _sums(made, middles, cells[FIRST : FIRST + BINS])
    return msgspec.structs.replace(made, sums=sums)


def _sums(series: Series, values: Sequence[float], counts: Cells) -> tuple[int, int, float, float]:
    """Sums, least and greatest of values that occur so often; zeros for texts."""
    there = [(value, int(count)) for value, count in zip(values, counts, strict=True) if count]
    if not there:
        return 0, 0, 0.0, 0.0
    steps = [(round((value - series.centre) / series.unit), count) for value, count in there]
    return (
        sum(step * count for step, count in steps),
        sum(step * step * count for step, count in steps),
        min(value for value, _ in there),
        max(value for value, _ in there),
    )


def _apportioned(counts: Cells, rows: int) -> Cells:
    """The same shares of so many rows: largest remainders first (Hamilton's method)."""
    exact = counts * (rows / counts.sum())
    whole: Cells = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: rows - int(whole.sum())]
    whole[rest] += 1
    return whole


def _kept(parent: Reference, sources: Sequence[Source]) -> list[int | None]:
    """Of each series, its place in the windows; None for those that the windows don't tell of."""
    found: list[int | None] = []
    for source in sources:
        start, end = parent.of(source)
        inputs = source.side == "input"
        found += [at if inputs else None for at in range(start, end)]
    return found


def _blocks(
    places: Sequence[int | None],
    windows: Sequence[Counts],
    cells: Cells,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Counts of blocks of rows, drawn from the windows: [blocks, series * CELLS]."""
    rows = int(cells[0].sum())
    length = block_rows(rows)
    whole = cells / rows
    told = [one for one in windows if one.rows]
    shares = [_shares(places, one, whole) for one in told]
    sizes = np.array([one.rows for one in told], np.float64)
    drawn = rng.choice(len(told), min(MAX_BLOCKS, max(rows // length, 1)), p=sizes / sizes.sum())
    blocks = [rng.multinomial(length, shares[window]).ravel() for window in drawn]
    return np.stack(blocks).astype(np.float32)


def _shares(
    places: Sequence[int | None], window: Counts, whole: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The window's shares where it tells of a series, else the candidate's."""
    found = whole.copy()
    for at, place in enumerate(places):
        if place is not None:
            found[at] = window.cells[place] / window.rows
    return found


def _estimator(reference: Reference, answers: Answers) -> Estimator | None:
    hits = np.zeros(CELLS, np.float64)
    if answers.evaluation.confident_correct:
        hits[FIRST : FIRST + BINS] = answers.evaluation.confident_correct
    rows = np.zeros(CELLS, np.float64)
    if answers.evaluation.confidences:
        rows[FIRST : FIRST + BINS] = answers.evaluation.confidences
    return estimator_by_hits(reference, rows, hits)
