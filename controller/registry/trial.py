"""Runs a model over its reference with the code of the device, and counts what it showed and cost.

The clock and the memory gauge are arguments.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.errors import AgentError
from agent.inference.datatypes import Array
from agent.inference.golden import Tolerance
from agent.runtimes.runtime import LoadedModel, Runtime, Tensors
from controller.errors import BadModel
from controller.registry.golden import tolerance_of
from controller.registry.onnx_file import OnnxFile
from controller.registry.signature import Signature, provisional_inputs
from protos.limits import INFER_BYTES
from protos.manifest import Budgets, Manifest, Needs

BATCH_ROWS: Final = 256
REPEATED_ROWS: Final = 1024  # run twice, to see whether they give the same
TIMED_ROWS: Final = 300
FEWEST_TIMED_ROWS: Final = 20
TIMING_SECONDS: Final = 2.0

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of the whole that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """The world that a trial is measured in: seconds, and bytes that the process has in memory."""

    seconds: Callable[[], float]
    resident_bytes: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under trial; ``file`` names it in messages."""

    model: str
    file: str
    data: bytes
    onnx: OnnxFile


@dataclass(frozen=True, slots=True)
class Trial:
    """What a model gave for the reference, and what that cost.

    Attributes:
        not_finite: by output, how many elements are NaN or infinite.
        unsteady: by output, in how many elements a second run differed.
    """

    outputs: Tensors
    not_finite: Mapping[str, int]
    unsteady: Mapping[str, int]
    latency_p99_seconds: float
    memory_bytes: int


def load(runtime: Runtime, subject: Subject, signature: Signature | None = None) -> LoadedModel:
    """The model as a device will load it by a manifest with this signature.

    Without one, only the inputs are compared with what the file says: what it does not tell of its
    outputs, the trial does.

    Raises:
        BadModel: the runtime can't load it, or its inputs and outputs are others.
    """
    inputs = provisional_inputs(subject.onnx)
    manifest = Manifest(
        model=subject.model,
        version=1,
        release_counter=1,
        inputs=signature.inputs if signature else inputs,
        outputs=signature.outputs if signature else (),
        files={},
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=0.0, memory_bytes=0),
    )
    try:
        return runtime.load(subject.data, manifest)
    except AgentError as error:
        raise BadModel(f"{subject.file}: {runtime.name} can't load it: {error.detail}") from error


def run(
    runtime: Runtime, subject: Subject, inputs: Tensors, gauges: Gauges, progress: Progress
) -> tuple[LoadedModel, Trial]:
    """The loaded model, for the caller to close, and what it showed.

    Raises:
        BadModel: the runtime can't load it, or it failed on rows of the reference.
    """
    progress(f"load {runtime.name} {runtime.version}", 0.0)  # not to be measured as the model's
    before = gauges.resident_bytes()
    model = load(runtime, subject)
    outputs = answers(model, subject, inputs, progress)
    few = {name: array[:REPEATED_ROWS] for name, array in inputs.items()}
    again = answers(model, subject, few, lambda _what, _share: None)
    first = {name: array[: len(again[name])] for name, array in outputs.items()}
    latency = _latency_p99(model, subject, inputs, gauges)
    grown = gauges.resident_bytes() - before
    return model, Trial(
        outputs=outputs,
        not_finite={name: _not_finite(array) for name, array in outputs.items()},
        unsteady={name: differing(array, again[name]) for name, array in first.items()},
        latency_p99_seconds=latency,
        # Memory that was free already is not seen to grow: the weights at least are there.
        memory_bytes=max(grown, 2 * len(subject.data)),
    )


def answers(model: LoadedModel, subject: Subject, inputs: Tensors, progress: Progress) -> Tensors:
    """Every output for all rows, computed batch by batch.

    Raises:
        BadModel: the model failed, naming the rows, or its outputs have not one row for each.
    """
    names = [one.name for one in subject.onnx.outputs]
    rows = len(next(iter(inputs.values())))
    pieces: dict[str, list[Array]] = {name: [] for name in names}
    for start, end in _batches(inputs, rows, row_at_a_time=subject.onnx.row_at_a_time):
        batch = {name: array[start:end] for name, array in inputs.items()}
        found = _once(model, subject, batch, names, f"rows {start + 1} to {end}")
        for name, array in zip(names, found, strict=True):
            if array.ndim == 0 or len(array) != end - start:
                raise BadModel(
                    f"{subject.file}: output {name!r} gave the shape {list(array.shape)} for "
                    f"{end - start} rows; it must give one row for each"
                )
            pieces[name].append(array)
        progress("run over the reference", end / rows)
    try:
        return {name: np.concatenate(found) for name, found in pieces.items()}
    except ValueError as error:
        raise BadModel(f"{subject.file}: an output's shape changes from row to row") from error


def _once(
    model: LoadedModel, subject: Subject, batch: Tensors, names: Sequence[str], where: str
) -> Sequence[Array]:
    try:
        return model.run(batch, names)
    except AgentError as error:
        raise BadModel(
            f"{subject.file}: it failed on {where} of the reference: {error.detail}"
        ) from error


def _batches(inputs: Tensors, rows: int, *, row_at_a_time: bool) -> Iterator[tuple[int, int]]:
    row_bytes = max(1, sum(array.nbytes for array in inputs.values()) // rows)
    most = 1 if row_at_a_time else max(1, min(BATCH_ROWS, INFER_BYTES // row_bytes))
    return ((start, min(start + most, rows)) for start in range(0, rows, most))


def _not_finite(array: Array) -> int:
    return int(np.count_nonzero(~np.isfinite(array))) if array.dtype.kind == "f" else 0


def differing(one: Array, other: Array) -> int:
    """In how many elements two runs differ by more than a device may."""
    if one.dtype.kind != "f":
        return int(np.count_nonzero(one != other))
    allowed: Tolerance = tolerance_of(one)
    same = np.isclose(
        one.astype(np.float64),
        other.astype(np.float64),
        rtol=allowed.relative,
        atol=allowed.absolute,
        equal_nan=True,
    )
    return int(np.count_nonzero(~same))


def _latency_p99(model: LoadedModel, subject: Subject, inputs: Tensors, gauges: Gauges) -> float:
    """Seconds within which 99 % of single rows are answered, on this machine."""
    names = [one.name for one in subject.onnx.outputs]
    rows = len(next(iter(inputs.values())))
    took: list[float] = []
    while len(took) < FEWEST_TIMED_ROWS or (len(took) < TIMED_ROWS and sum(took) < TIMING_SECONDS):
        at = len(took) % rows
        row = {name: array[at : at + 1] for name, array in inputs.items()}
        started = gauges.seconds()
        _once(model, subject, row, names, f"row {at + 1}")
        took.append(gauges.seconds() - started)
    return sorted(took)[math.ceil(0.99 * len(took)) - 1]
