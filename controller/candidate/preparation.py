"""From what a run has brought to everything of a bundle but its place among the model's versions.

Steps: move the parent's model by an int8 step, have it answer the parent's golden inputs with the
device's own runtime, name it in the train step, count the reference profile anew, judge. Nothing is
stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.errors import AgentError
from agent.inference import golden as golden_file
from agent.inference.golden import Golden
from agent.monitor.counts import Counts
from agent.monitor.reference import read_reference
from agent.runtimes.runtime import Runtime, Tensors
from controller.candidate.errors import NoCandidate
from controller.candidate.model import SteppedModel, stepped
from controller.candidate.profile import Answers, CandidateProfile, candidate_profile
from controller.candidate.trained import Trained, metrics_of
from controller.registry.bundle import Measured
from controller.registry.gates import Candidate
from controller.registry.metrics import LOSS, predictions
from controller.registry.onnx_file import read_onnx
from controller.registry.origin import Origin
from controller.registry.preparation import Prepared, golden_of
from controller.registry.signature import Signature
from controller.registry.training_text import spec_of
from controller.registry.trial import Gauges, Progress, Subject, Trial, answers, load, run
from controller.train_step.parameters import with_parameters
from protos.documents import sha256
from protos.errors import DocumentError
from protos.manifest import Manifest, Role
from protos.train_step import Loss, TrainStepSpec, renamed


@dataclass(frozen=True, slots=True)
class TrainedParent:
    """The version that was trained on: its manifest and the files of its bundle.

    ``golden_of`` is the version whose golden rows are among the files.
    """

    manifest: Manifest
    files: Mapping[Role, bytes]
    golden_of: str

    @property
    def spec(self) -> TrainStepSpec:
        """How devices train it.

        Raises:
            NoCandidate: they may not.
        """
        graph = self.files.get(Role.TRAIN_STEP)
        if graph is None:
            raise NoCandidate(f"{self.manifest.reference} has no train step")
        return spec_of(graph)


def given_by_people(manifest: Manifest, versions: Sequence[Manifest]) -> Manifest:
    """The version that somebody registered with reference data, from which this one comes."""
    known = {one.version: one for one in versions}
    while manifest.lineage.training_run and manifest.lineage.parent in known:
        manifest = known[manifest.lineage.parent]
    return manifest


def prepare(
    runtime: Runtime,
    parent: TrainedParent,
    trained: Trained,
    windows: Sequence[Counts],
    gauges: Gauges,
    rng: np.random.Generator,
    progress: Progress,
) -> Prepared:
    """The parts of the candidate's bundle. Its gates are not asked.

    ``windows`` are what devices told of the parent's data last, if anything.

    Raises:
        NoCandidate: the parameters do not fit the parent; names what does not.
        BadModel: the runtime can't run what came of it.
    """
    manifest, spec = parent.manifest, parent.spec
    _check_parameters(spec, trained)
    progress("make the model of its parent and a step", 0.0)
    made = stepped(parent.files[Role.MODEL], trained.parameters)
    file = f"{manifest.reference} trained by {trained.run}"
    onnx = read_onnx(made.onnx, file)
    subject = Subject(manifest.model, file, made.onnx, onnx)
    signature = Signature(manifest.inputs, manifest.outputs)
    before = _golden(parent.files[Role.GOLDEN])
    asked = before.inputs
    model, trial = run(runtime, subject, asked, gauges, progress)
    try:
        vectors = golden_of(model, subject, signature, asked, trial)
    finally:
        model.close()
    load(runtime, subject, signature).close()
    progress("count the profile and calibrate its thresholds", 0.0)
    profile = _profile(parent, spec, windows, trained, rng)
    rounding = _rounding(runtime, parent, trained, made, asked, trial)
    files = {
        Role.MODEL: made.onnx,
        Role.MODEL_STEP: made.step,
        Role.TRAIN_STEP: _train_step(parent, spec, made),
        Role.REFERENCE: profile.reference.encode(),
        Role.GOLDEN: vectors,
    }
    return Prepared(
        onnx=onnx,
        signature=signature,
        files=files,
        measured=Measured(
            trial.latency_p99_seconds, trial.memory_bytes, runtime.name, runtime.version
        ),
        metrics=metrics_of(trained.after),
        reference_rows=trained.after.examples,
        candidate=_judged(manifest, trained, trial),
        notes=(_size(made), *rounding, *profile.notes),
        parent=manifest.version,
        estimator=profile.estimator,
        training=spec_of(files[Role.TRAIN_STEP]),
        origin=_origin(parent, trained, windows, made, _turned(parent, signature, before, trial)),
    )


def _train_step(parent: TrainedParent, spec: TrainStepSpec, made: SteppedModel) -> bytes:
    try:
        return renamed(parent.files[Role.TRAIN_STEP], spec.model_sha256, sha256(made.onnx))
    except DocumentError as error:
        raise NoCandidate(f"{parent.manifest.reference}: {error.detail}") from error


def _check_parameters(spec: TrainStepSpec, trained: Trained) -> None:
    wanted = {one.name: one.shape for one in spec.parameters}
    given = {name: array.shape for name, array in trained.parameters.items()}
    if wanted != given:
        differing = sorted(set(wanted.items()) ^ set(given.items()))
        raise NoCandidate(
            f"the run's parameters are not those of the train step: {differing[0][0]!r}"
        )


def _golden(data: bytes) -> Golden:
    try:
        return golden_file.decode(data)
    except AgentError as error:
        raise NoCandidate(f"the parent's golden vectors: {error.detail}") from error


def _profile(
    parent: TrainedParent,
    spec: TrainStepSpec,
    windows: Sequence[Counts],
    trained: Trained,
    rng: np.random.Generator,
) -> CandidateProfile:
    classes = round(len(trained.after.confusion) ** 0.5)
    labels = spec.classes or tuple(range(classes))
    try:
        reference = read_reference(parent.files[Role.REFERENCE])
        found = candidate_profile(reference, windows, Answers(trained.after, labels), rng)
        read_reference(found.reference.encode())  # as every device will
    except DocumentError as error:
        raise NoCandidate(f"the reference profile: {error.detail}") from error
    return found


def _rounding(
    runtime: Runtime,
    parent: TrainedParent,
    trained: Trained,
    made: SteppedModel,
    inputs: Tensors,
    trial: Trial,
) -> tuple[str, ...]:
    """On how many golden rows the step's rounding gives another class than what was trained."""
    signature = Signature(parent.manifest.inputs, parent.manifest.outputs)
    data = with_parameters(parent.files[Role.MODEL], trained.parameters)
    name = f"{parent.manifest.reference} trained by {trained.run}, in float32"
    subject = Subject(parent.manifest.model, name, data, read_onnx(data, name))
    model = load(runtime, subject)
    try:
        exact = answers(model, subject, inputs, lambda _what, _share: None)
    finally:
        model.close()
    ours, theirs = predictions(signature, trial.outputs), predictions(signature, exact)
    if ours is None or theirs is None:
        return ()
    changed = int(np.count_nonzero(ours != theirs))
    off = f"rounding to the step moves a number by {made.largest:.2g} at most"
    return (f"{off}, which changes {changed} of {len(ours)} golden answers",)


def _turned(
    parent: TrainedParent, signature: Signature, before: Golden, trial: Trial
) -> Mapping[str, str]:
    """On how many golden rows it answers otherwise than the version that they were given with."""
    then, now = predictions(signature, before.outputs), predictions(signature, trial.outputs)
    if then is None or now is None:
        return {}
    changed = int(np.count_nonzero(then != now))
    return {
        "golden_of": parent.golden_of,
        "golden_answers": str(len(now)),
        "golden_answers_changed": str(changed),
    }


def _judged(manifest: Manifest, trained: Trained, trial: Trial) -> Candidate:
    """The loss can be demanded; it is not compared with the parent's, for being surer may cost some."""
    loss = trained.after.loss
    return Candidate(
        rows=trained.after.examples,
        not_finite=trial.not_finite,
        unsteady=trial.unsteady,
        latency_p99_seconds=trial.latency_p99_seconds,
        memory_bytes=trial.memory_bytes,
        metrics={**metrics_of(trained.after), **({} if loss is None else {LOSS: loss})},
        parent=manifest.reference,
        parent_metrics=metrics_of(trained.before),
    )


def _size(made: SteppedModel) -> str:
    return (
        f"the model is its parent and a step of {len(made.step):,} bytes, "
        f"{made.share:.1%} of its {len(made.onnx):,}"
    )


def _origin(
    parent: TrainedParent,
    trained: Trained,
    windows: Sequence[Counts],
    made: SteppedModel,
    turned: Mapping[str, str],
) -> Origin:
    files = parent.manifest.files
    facts = {
        "run": trained.run,
        "rounds": str(trained.round),
        "devices": str(trained.devices),
        "devices_evaluated": str(trained.evaluated),
        "parent_model": files[Role.MODEL].sha256,
        "parent_profile": files[Role.REFERENCE].sha256,
        "predictions_profiled": str(sum(one.rows for one in windows)),
        "step_bytes": str(len(made.step)),
        "step_levels": str(made.levels),
        **turned,
    }
    before, after = trained.before.loss, trained.after.loss
    if before is not None and after is not None and parent.spec.loss is not Loss.NLL:
        facts |= {"loss_before": f"{before:.6g}", "loss_after": f"{after:.6g}"}
    data = f"examples that {trained.evaluated} devices hold out"
    return Origin(data, facts, files[Role.TRAIN_STEP].sha256)
