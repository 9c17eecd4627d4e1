"""Trains in the process that asks: for tests and simulations of many devices, without limits."""

from collections.abc import Callable

import numpy as np

from agent.errors import HashMismatch
from agent.federated.errors import StepRefused
from agent.federated.evaluation import Evaluation
from agent.federated.examples import ExampleStore, Part
from agent.federated.layout import Array, Layout, layout_of, records
from agent.federated.local_training import evaluate, known_classes, train
from agent.federated.parameters import check_parameters
from agent.federated.rejection import check_held_out, check_no_worse, check_training
from agent.federated.step_file import read_step
from agent.federated.trainer import Bounds, EvaluateJob, TrainJob, TrainResult
from agent.runtimes.train_step import OnnxTrainStep
from protos.manifest import Manifest, Role


class MemoryTrainer:
    """See ``Trainer``. The same graph in the same runtime, so the same bits.

    Args:
        read: the blob of a digest; raises ``KeyError`` or an ``AgentError`` if it is not there.
        steps: training steps by digest, to be shared by many devices.
    """

    def __init__(
        self,
        read: Callable[[str], bytes],
        examples: ExampleStore,
        steps: dict[str, OnnxTrainStep] | None = None,
    ) -> None:
        self._read = read
        self._examples = examples
        self._steps = {} if steps is None else steps

    async def train(self, job: TrainJob) -> TrainResult:
        """See ``Trainer``."""
        step, layout = self._step(job.manifest)
        check_parameters(step.spec, job.parameters)
        training = self._rows(job.manifest, step, layout, Part.TRAINING)
        held_out = self._rows(job.manifest, step, layout, Part.HELD_OUT)
        check_held_out(job.bounds, len(held_out))
        check_training(job.bounds, len(training))
        before = evaluate(step, job.parameters, held_out)
        rng = np.random.default_rng(job.plan.seed)
        trained = train(step, job.parameters, training, job.plan, rng)
        after = evaluate(step, trained.parameters, held_out)
        check_no_worse(job.bounds, before, after)
        return TrainResult(
            parameters=trained.parameters,
            steps=trained.steps,
            examples=len(training),
            first_loss=trained.first_loss,
            last_loss=trained.last_loss,
            before=before,
            after=after,
        )

    async def evaluate(self, job: EvaluateJob) -> Evaluation:
        """See ``Trainer``."""
        step, layout = self._step(job.manifest)
        check_parameters(step.spec, job.parameters)
        held_out = self._rows(job.manifest, step, layout, Part.HELD_OUT)
        check_held_out(Bounds(fewest_held_out=max(1, job.fewest_held_out)), len(held_out))
        return evaluate(step, job.parameters, held_out)

    def _step(self, manifest: Manifest) -> tuple[OnnxTrainStep, Layout]:
        listed = manifest.files.get(Role.TRAIN_STEP)
        if listed is None:
            raise StepRefused(f"{manifest.reference}: the version has no training step")
        step = self._steps.get(listed.sha256)
        if step is None:
            try:
                data = self._read(listed.sha256)
            except KeyError as error:
                raise HashMismatch(f"{manifest.reference}: no training step") from error
            step = self._steps[listed.sha256] = OnnxTrainStep(data, read_step(data))
        if step.spec.model_sha256 != manifest.files[Role.MODEL].sha256:
            raise StepRefused(
                f"{manifest.reference}: the training step was built from another model"
            )
        return step, layout_of(manifest, step.spec, step.classes)

    def _rows(self, manifest: Manifest, step: OnnxTrainStep, layout: Layout, part: Part) -> Array:
        data = b"".join(self._examples.rows(manifest.model, layout, part))
        return known_classes(step.spec, step.classes, records(layout, data))
