"""The reference profile of a new version: no version exists without a monitor."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec
import numpy as np

from agent.monitor.counts import Counts
from agent.monitor.observer import Observer
from agent.monitor.reference import (
    LEVELS,
    MAX_SERIES,
    REFERENCE_BYTES,
    Policy,
    Reference,
    Series,
    Source,
    Table,
)
from agent.monitor.thresholds import SIZES
from controller.errors import BadReference
from controller.monitor.calibration import (
    Rows,
    calibrate,
    count_blocks,
    counted,
    dispersion,
)
from controller.monitor.profile import (
    Arrays,
    checked,
    series_of,
    source_of,
    watched_tensors,
)
from protos.manifest import Semantic, Tensor

SORTED: Final = 3.0
"""A dispersion from which the rows look sorted rather than recorded."""
_NONE: Final = Table(
    sizes=SIZES,
    evidence=tuple((0.0,) * len(LEVELS) for _ in SIZES),
    effect=tuple((0.0,) * len(LEVELS) for _ in SIZES),
)


def build_reference(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    input_arrays: Arrays,
    output_arrays: Arrays,
    rng: np.random.Generator,
    policy: Policy | None = None,
) -> Reference:
    """The calibrated profile of the reference data and of what the model answered on them.

    Arrays are by tensor name, [N, *row]; arrays that no tensor is named for are ignored. The outputs
    should be of data that the model was not trained on: on its training data it is surer of itself.

    Raises:
        BadReference: an array is missing, does not fit its tensor, or says nothing; names it.
    """
    policy = policy or Policy()
    rows, sources = _rows_and_sources(inputs, outputs, input_arrays, output_arrays)
    series: list[Series] = []
    for source in sources:
        arrays = rows.inputs if source.side == "input" else rows.outputs
        series += series_of(source, arrays[source.tensor])
    draft = Reference(
        rows=rows.count, sources=tuple(sources), series=tuple(series), table=_NONE, policy=policy
    )
    observer = Observer(draft)
    counts = counted(observer, rows)
    blocks = count_blocks(observer, rows if policy.ordered else rows.shuffled(rng))
    reference = msgspec.structs.replace(
        draft,
        series=tuple(_with_counts(draft.series, counts)),
        table=calibrate(draft, blocks, counts.cells, rng),
        dispersion=round(dispersion(blocks, len(series)), 3),
    )
    size = len(reference.encode())
    if size > REFERENCE_BYTES:
        raise BadReference(f"reference: its profile has {size} bytes; {REFERENCE_BYTES} at most")
    return reference


def notes(reference: Reference) -> list[str]:
    """What a person should know about the profile before trusting it, if anything."""
    found = []
    if reference.dispersion >= SORTED:
        found.append(
            f"neighbouring rows of the reference are alike (dispersion {reference.dispersion:.1f}): "
            "if they are sorted rather than recorded in this order, shuffle them, or the monitor "
            "will take large changes for healthy"
        )
    if reference.rows < 3 * reference.policy.n_min:
        found.append(
            f"the reference has {reference.rows} rows for windows of {reference.policy.n_min}: "
            "more rows would let the monitor see smaller changes"
        )
    return found


def _rows_and_sources(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], input_arrays: Arrays, output_arrays: Arrays
) -> tuple[Rows, list[Source]]:
    tensors = watched_tensors(inputs, outputs)
    if not tensors:
        raise BadReference("reference: no input and no output of the model can be watched")
    labelled = any(side == "output" and one.semantic is Semantic.LABEL for side, one in tensors)
    rows: int | None = None
    sources, kept = [], Rows({}, {}, 0)
    for side, tensor in tensors:
        arrays = input_arrays if side == "input" else output_arrays
        array = checked(side, tensor, arrays, rows)
        rows = len(array)
        sources.append(source_of(side, tensor, array, labelled=labelled))
        (kept.inputs if side == "input" else kept.outputs)[tensor.name] = array
    parts = list(accumulate(source.parts for source in sources))
    if parts[-1] > MAX_SERIES:
        beyond = next(at for at, total in enumerate(parts) if total > MAX_SERIES)
        raise BadReference(
            f"reference: {sources[beyond].side} {sources[beyond].tensor!r} brings the series to "
            f"{parts[beyond]}; {MAX_SERIES} at most: declare it opaque"
        )
    return Rows(kept.inputs, kept.outputs, rows or 0), sources


def _with_counts(series: Sequence[Series], counts: Counts) -> list[Series]:
    return [
        msgspec.structs.replace(
            one,
            counts=tuple(counts.cells[at].tolist()),
            sums=(
                int(counts.sums[at, 0]),
                int(counts.sums[at, 1]),
                *(_finite(float(bound[at])) for bound in (counts.least, counts.greatest)),
            ),
        )
        for at, one in enumerate(series)
    ]


def _finite(value: float) -> float:
    """JSON has no infinity: texts have no least value."""
    return value if np.isfinite(value) else 0.0
