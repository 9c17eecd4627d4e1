"""The seam to whatever trains and evaluates on a device: a process with limits, beside the agent.

A trainer takes the examples from the device's own store; what comes back are parameters and counts.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from agent.federated.evaluation import Evaluation
from agent.federated.parameters import Parameters
from protos.limits import MIB
from protos.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one device trains in one round. The same plan, parameters and examples give the same bits.

    Attributes:
        epochs: passes over the training part.
        batch: rows of one step; the last of an epoch is filled up with rows that weigh nothing.
        learning_rate: of every step.
        momentum: begins at zero in every round; unused if the step has none.
        proximal: μ of FedProx; 0 leaves it out; unused if the step has none.
        most_steps: ends the training after so many, as if it were done; 0 is no bound.
        seed: of the shuffles.
    """

    epochs: int = 1
    batch: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.0
    proximal: float = 0.0
    most_steps: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an update must keep to, or the device rejects it.

    Attributes:
        fewest_examples: in the training part.
        fewest_held_out: of these the hold-out must have so many.
        worse_by: the mean loss on the hold-out may grow by so much of what it was, and
        worse_by_more: by so much besides. Not judged without a hold-out.
    """

    fewest_examples: int = 1
    fewest_held_out: int = 0
    worse_by: float = 0.25
    worse_by_more: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What training may take of the device.

    Attributes:
        seconds: of running; while it waits for inference, none pass.
        waiting_seconds: in all that it may wait for inference.
        memory_bytes: over what the process has before it loads anything.
        threads: that compute one step.
        steps: at most so many, whatever a plan says.
    """

    seconds: float = 300.0
    waiting_seconds: float = 900.0
    memory_bytes: int = 256 * MIB
    threads: int = 1
    steps: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One round's training.

    Attributes:
        manifest: of the version that runs here; its train step is trained from, as people signed it.
        parameters: those to start from, all that the step's description names.
    """

    manifest: Manifest
    parameters: Parameters
    plan: Plan = Plan()
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateJob:
    """Looks how good ``parameters`` are on the hold-out. See ``TrainJob``."""

    manifest: Manifest
    parameters: Parameters
    fewest_held_out: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What was learnt.

    Attributes:
        parameters: after the last step: finite, in the order of the step's description.
        examples: in the training part, each seen in every epoch.
        first_loss: of the first step's batch; ``last_loss``: the mean of the last ten steps'.
        before, after: on the hold-out, with the parameters that came and with these.
        seconds: of running, without what it waited for inference.
        peak_bytes: of memory, over what the process had before it loaded anything.
    """

    parameters: Parameters
    steps: int
    examples: int
    first_loss: float
    last_loss: float
    before: Evaluation
    after: Evaluation
    seconds: float = 0.0
    waited_seconds: float = 0.0
    peak_bytes: int = 0


class Trainer(Protocol):
    """Trains and evaluates one job at a time; cancelling either ends it, and leaves nothing behind.

    Both raise, besides what they name:

    * ``StepRefused``: the version has no training step, or not one that this device runs.
    * ``ParametersUnfit``: the parameters are not the step's.
    * ``OverBudget``, ``TrainerCrashed``: a ``TrainingRejected``, as those below.
    * ``HashMismatch``, ``StoreError``: a file is not there, or not the one that was signed.
    * ``NoProcess``, ``TrainingInterrupted``, ``InferenceFirst``: now was not the time.
    """

    def train(self, job: TrainJob) -> Awaitable[TrainResult]:
        """The result of a training that kept to the job's bounds.

        Raises:
            TooFewExamples, NotFinite, WorseOnHoldOut: it did not.
        """
        ...

    def evaluate(self, job: EvaluateJob) -> Awaitable[Evaluation]:
        """The counts of the hold-out.

        Raises:
            TooFewExamples: the hold-out is smaller than the job asks for.
            NotFinite: the loss is.
        """
        ...
