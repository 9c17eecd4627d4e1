"""What a device does that means no good; it knows what the product's own devices know."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from agent.federated.evaluation import Evaluation
from agent.federated.parameters import Float32s
from agent.federated.trainer import EvaluateJob, Trainer, TrainJob, TrainResult
from simulations.study.digits import CLASSES, Labels

CRUDE: Final = "-20 w + 5"
BACKWARDS: Final = "10 times backwards"
FALSE_LABELS: Final = "false labels"
ATTACKS: Final = (CRUDE, BACKWARDS, FALSE_LABELS)

Moved = Callable[[Float32s, Float32s], Float32s]
"""What is sent, of a parameter before and after an honest training."""

_MOVED: Final[dict[str, Moved]] = {
    CRUDE: lambda _, after: np.asarray(-20 * after + 5, np.float32),
    BACKWARDS: lambda before, after: np.asarray(before - 10 * (after - before), np.float32),
}


@dataclass(frozen=True, slots=True)
class Poisoner:
    """See ``Trainer``: trains as asked, and tells something else."""

    honest: Trainer
    moved: Moved

    async def train(self, job: TrainJob) -> TrainResult:
        """With parameters that were not learnt."""
        found = await self.honest.train(job)
        return replace(
            found,
            parameters={
                name: self.moved(before, found.parameters[name])
                for name, before in job.parameters.items()
            },
        )

    async def evaluate(self, job: EvaluateJob) -> Evaluation:
        """Honestly: nothing hangs on it here."""
        return await self.honest.evaluate(job)


def poisoned(attack: str) -> Callable[[Trainer], Trainer]:
    """What an attacker puts in its trainer's place; nothing, where it lies about its labels only."""
    moved = _MOVED.get(attack)
    return lambda trainer: trainer if moved is None else Poisoner(trainer, moved)


def told_labels(attack: str, labels: Labels) -> Labels:
    """The labels that such a device learns from."""
    return CLASSES - 1 - labels if attack == FALSE_LABELS else labels
