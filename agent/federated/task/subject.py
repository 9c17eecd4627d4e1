"""What a device can learn, and from what: the versions that answer here, and their training steps."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.federated.eligibility import Ground
from agent.federated.errors import StepRefused
from agent.federated.step_file import StepFile
from protos.manifest import Manifest, Role
from protos.train_step import TrainStepSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A version that answers here.

    Attributes:
        manifest: its.
        step: its training step; None if it has none, or none that this device runs.
        ground: what there is to learn from.
    """

    manifest: Manifest
    step: StepFile | None
    ground: Ground

    @property
    def has_step(self) -> bool:
        """Whether people have signed a training step for it, be it one that runs here or not."""
        return Role.TRAIN_STEP in self.manifest.files

    @property
    def spec(self) -> TrainStepSpec:
        """What the training step says of itself.

        Raises:
            StepRefused: there is none.
        """
        if self.step is None:
            raise StepRefused(f"{self.manifest.reference}: {self.ground.objection}")
        return self.step.spec


Subjects = Mapping[str, Subject]
"""By model: what its champion is."""
