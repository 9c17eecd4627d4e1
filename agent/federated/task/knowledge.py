"""Which versions answer here, what their training steps say, and how many examples there are for them."""

from collections.abc import Callable, Mapping
from typing import Final

from agent.errors import AgentError, HashMismatch, StoreError
from agent.federated.eligibility import Ground
from agent.federated.errors import NotCollecting
from agent.federated.examples import ExampleStore
from agent.federated.layout import layout_of
from agent.federated.step_file import StepFile, read_step
from agent.federated.task.subject import Subject, Subjects
from protos.manifest import Manifest, Role

MOST_REMEMBERED: Final = 64
"""Training steps; each is read once as long as it is one of those."""

Known = StepFile | str


class Knowledge:
    """Its ``subjects`` may be asked from any thread.

    Args:
        champions: the manifest of what answers for each model.
        read: a file of the bundle by its digest; raises an ``AgentError`` if it is not whole.
    """

    def __init__(
        self,
        champions: Callable[[], Mapping[str, Manifest]],
        read: Callable[[str], bytes],
        examples: ExampleStore,
    ) -> None:
        self._champions = champions
        self._read = read
        self._examples = examples
        self._steps: dict[str, Known] = {}

    def subjects(self) -> Subjects:
        """By model, what there is to learn.

        Raises:
            StoreError: the examples can't be counted.
        """
        return {model: self._subject(one) for model, one in self._champions().items()}

    def _subject(self, manifest: Manifest) -> Subject:
        if Role.TRAIN_STEP not in manifest.files:
            ground = Ground(trainable=False, objection="the version has no training step")
            return Subject(manifest=manifest, step=None, ground=ground)
        step = self._step(manifest.files[Role.TRAIN_STEP].sha256)
        if isinstance(step, str):
            ground = Ground(trainable=False, objection=step)
            return Subject(manifest=manifest, step=None, ground=ground)
        return Subject(manifest=manifest, step=step, ground=self._ground(manifest, step))

    def _ground(self, manifest: Manifest, step: StepFile) -> Ground:
        try:
            layout = layout_of(manifest, step.spec, step.classes)
        except NotCollecting as error:
            return Ground(trainable=False, objection=error.detail)
        held = self._examples.held(manifest.model, layout)
        return Ground(trainable=True, held=held.training, held_out=held.held_out)

    def _step(self, sha256: str) -> Known:
        """The training step, or why it is none; what the disk can't give now is not remembered."""
        known = self._steps.get(sha256)
        if known is None:
            try:
                known = read_step(self._read(sha256))
            except (HashMismatch, StoreError) as error:
                return error.detail
            except AgentError as error:
                known = error.detail
            if len(self._steps) >= MOST_REMEMBERED:
                self._steps = {}
            self._steps = {**self._steps, sha256: known}
        return known
