"""What a candidate must show beside what every version must."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.registry.gates import (
    AllOf,
    Candidate,
    Deterministic,
    FiniteOutputs,
    Gate,
    MetricAtLeast,
    NotWorseThanParent,
)
from controller.registry.metrics import MACRO_F1

EXAMPLES: Final = 100
WORSE_BY: Final = 0.01
"""Accuracy may be so much under the parent's on what devices hold out."""
UNSURE: Final = frozenset({MACRO_F1})
"""Not compared: which classes were taken for which is as devices tell it, so a few that lie would decide."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Devices have told how good it is on enough examples that no training has seen."""

    examples: int

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One, if they have not."""
        if candidate.rows >= self.examples:
            return ()
        told = f"devices have evaluated it on {candidate.rows:,} examples that they hold out"
        return (f"{told}, needs {self.examples:,}",)


def candidate_gates(
    at_least: Mapping[str, float] | None = None,
    worse_by: float = WORSE_BY,
    examples: int = EXAMPLES,
) -> Gate:
    """What every candidate must pass, and metrics that are at least (errors and loss: at most) so good."""
    more = [MetricAtLeast(name, bound) for name, bound in sorted((at_least or {}).items())]
    beside = NotWorseThanParent(worse_by, UNSURE)
    return AllOf((HeldOut(examples), FiniteOutputs(), Deterministic(), beside, *more))
