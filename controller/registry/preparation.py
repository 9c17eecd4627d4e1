"""From a request's bytes to everything of a bundle but its place among the model's versions.

Steps: read the file, bring it into its canonical form if devices are to train it, read the reference,
run the one over the other with the device's own runtime, infer the signature, measure how right it is
and how right its parent, choose golden vectors, build the train step, build the calibrated profile,
judge. Nothing is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.inference import golden as golden_file
from agent.runtimes.runtime import LoadedModel, Runtime, Tensors
from controller.errors import BadModel
from controller.monitor import registration as monitor
from controller.monitor.estimator import Estimator, estimator_of
from controller.registry import golden
from controller.registry.bundle import Measured
from controller.registry.gates import Candidate
from controller.registry.metrics import metrics, predictions
from controller.registry.onnx_file import OnnxFile, read_onnx
from controller.registry.origin import Origin
from controller.registry.reference import ReferenceData, read_reference
from controller.registry.registration import Registration
from controller.registry.signature import Signature, infer
from controller.registry.training import Shown, train_step
from controller.registry.trial import Gauges, Progress, Subject, Trial, answers, load, run
from controller.train_step.canonical import canonical
from protos.manifest import Manifest, Role
from protos.train_step import TrainStepSpec


@dataclass(frozen=True, slots=True)
class Parent:
    """The version that a new one follows, with its model file."""

    manifest: Manifest
    model: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bundle's parts, and what the gates shall judge.

    ``reference_rows`` were run; ``parent`` is the number of the version that this one follows;
    ``training`` is what the train step says, if there is one; ``origin`` is of what devices trained.
    """

    onnx: OnnxFile
    signature: Signature
    files: Mapping[Role, bytes]
    measured: Measured
    metrics: Mapping[str, float]
    reference_rows: int
    candidate: Candidate
    notes: tuple[str, ...]
    parent: int | None
    estimator: Estimator | None = None
    training: TrainStepSpec | None = None
    origin: Origin | None = None


def prepare(
    runtime: Runtime,
    request: Registration,
    parent: Parent | None,
    gauges: Gauges,
    rng: np.random.Generator,
    progress: Progress,
) -> Prepared:
    """The parts of the request's bundle. Its gates are not asked.

    Raises:
        BadModel, BadReference, TooLarge, InvalidInput: a file or the request is not what it must
            be; the message names it.
    """
    progress("check the model", 0.0)
    subject, said = _subject(runtime, request, progress)
    onnx = subject.onnx
    progress("read the reference data", 0.0)
    data = read_reference(request.reference, onnx, request.reference_name)
    model, trial = run(runtime, subject, data.inputs, gauges, progress)
    try:
        signature = infer(onnx, data.inputs, trial.outputs, request.semantics, request.onnx_name)
        progress("choose golden vectors", 0.0)
        vectors = golden_of(model, subject, signature, data.inputs, trial)
    finally:
        model.close()
    load(runtime, subject, signature).close()
    measures = _metrics(signature, trial.outputs, data)
    candidate, notes = _candidate(runtime, parent, data, trial, measures, progress)
    trained = None
    if request.training is not None:
        progress("build the train step and try it", 0.0)
        shown = Shown(request.onnx, subject.data, signature, data.inputs, trial.outputs)
        trained = train_step(request.training, shown, runtime, rng)
    progress("build the profile and calibrate its thresholds", 0.0)
    profile = monitor.build_reference(
        signature.inputs, signature.outputs, data.inputs, trial.outputs, rng, request.policy
    )
    right = _right(signature, trial.outputs, data)
    files = {Role.MODEL: subject.data, Role.REFERENCE: profile.encode(), Role.GOLDEN: vectors}
    return Prepared(
        onnx=onnx,
        signature=signature,
        files=files | ({Role.TRAIN_STEP: trained.graph} if trained else {}),
        measured=Measured(
            trial.latency_p99_seconds, trial.memory_bytes, runtime.name, runtime.version
        ),
        metrics=measures,
        reference_rows=data.rows,
        candidate=candidate,
        notes=(*said, *data.notes, *notes, *monitor.notes(profile)),
        parent=parent.manifest.version if parent else None,
        estimator=estimator_of(profile, data.inputs, trial.outputs, right),
        training=trained.spec if trained else None,
    )


def _subject(
    runtime: Runtime, request: Registration, progress: Progress
) -> tuple[Subject, Sequence[str]]:
    """The model as it is shipped, and notes: the file as it came, unless devices are to train it."""
    onnx = read_onnx(request.onnx, request.onnx_name)
    subject = Subject(request.model, request.onnx_name, request.onnx, onnx)
    if request.training is None:
        return subject, ()
    progress("bring the model into its canonical form", 0.0)
    data = canonical(request.onnx, runtime)
    if data == request.onnx:
        return subject, ()
    note = "devices get the model in its canonical form, from which train steps are built"
    onnx = read_onnx(data, request.onnx_name)
    return replace(subject, data=data, onnx=onnx), (note,)


def golden_of(
    model: LoadedModel, subject: Subject, signature: Signature, inputs: Tensors, trial: Trial
) -> bytes:
    """The file of golden vectors of some of the rows: their outputs are what they give as one batch."""
    row_at_a_time = subject.onnx.row_at_a_time
    rows = golden.choose(signature, inputs, trial.outputs, row_at_a_time=row_at_a_time)
    chosen = {name: array[rows] for name, array in inputs.items()}
    outputs = answers(model, subject, chosen, lambda _what, _share: None)
    return golden_file.encode(golden.golden(signature, chosen, outputs))


def _metrics(signature: Signature, outputs: Tensors, data: ReferenceData) -> Mapping[str, float]:
    return {} if data.truth is None else metrics(signature, outputs, data.truth)


def _right(signature: Signature, outputs: Tensors, data: ReferenceData) -> NDArray[np.bool_] | None:
    """Of each row whether its class is right; None if there is no class or no truth."""
    predicted = None if data.truth is None else predictions(signature, outputs)
    return None if predicted is None else np.asarray(predicted == data.truth, np.bool_)


def _candidate(
    runtime: Runtime,
    parent: Parent | None,
    data: ReferenceData,
    trial: Trial,
    measures: Mapping[str, float],
    progress: Progress,
) -> tuple[Candidate, Sequence[str]]:
    """What the gates judge, and notes. The parent is measured on the same rows."""
    before: Mapping[str, float] = {}
    notes: list[str] = []
    if parent is not None and measures:
        progress(f"run {parent.manifest.reference} over the same rows", 0.0)
        try:
            before = _parent_metrics(runtime, parent, data, progress)
        except BadModel as error:
            notes.append(f"not compared with {parent.manifest.reference}: {error.detail}")
    candidate = Candidate(
        rows=data.rows,
        not_finite=trial.not_finite,
        unsteady=trial.unsteady,
        latency_p99_seconds=trial.latency_p99_seconds,
        memory_bytes=trial.memory_bytes,
        metrics=measures,
        parent=parent.manifest.reference if parent else "",
        parent_metrics=before,
    )
    return candidate, notes


def _parent_metrics(
    runtime: Runtime, parent: Parent, data: ReferenceData, progress: Progress
) -> Mapping[str, float]:
    manifest = parent.manifest
    wanted = {one.name: one.shape[1:] for one in manifest.inputs}
    given = {name: array.shape[1:] for name, array in data.inputs.items()}
    if wanted != given:
        raise BadModel("its inputs are others")
    onnx = read_onnx(parent.model, manifest.reference)
    subject = Subject(manifest.model, manifest.reference, parent.model, onnx)
    model = load(runtime, subject)
    try:
        outputs = answers(model, subject, data.inputs, progress)
    finally:
        model.close()
    return _metrics(Signature(manifest.inputs, manifest.outputs), outputs, data)
