"""One rollout's accounts: how its devices stand, and what a plan has done about it."""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from controller.rollout.gate.judgement import GateResult
from controller.rollout.rollout import Rollout, StageRecord
from controller.rollout.standing import Census, Outcome, Standing


@dataclass(frozen=True, slots=True)
class Progress:
    """One rollout's accounts. They are valid until the ledger looks again.

    Attributes:
        rollout: as it is after the plan.
        by_device: the standings of those that it has released.
        census: the same, grouped.
        stages: as they are after the plan, by number.
        held: devices of the control group.
        incompatible: devices that match and can't run it, each with the reasons.
        taken: devices that match and that a newer rollout has, by its id.
        steps: why the plan does what it does, in sentences.
        gates: what gates said, if the plan has asked them.
        notes: what the plan does for single devices: devices by sentence.
    """

    rollout: Rollout
    by_device: Mapping[str, Standing] = field(default_factory=dict)
    census: Census = field(default_factory=Census)
    stages: tuple[StageRecord, ...] = ()
    held: AbstractSet[str] = frozenset()
    incompatible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    gates: tuple[GateResult, ...] = ()
    notes: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Of the devices that it has released, by id."""
        return tuple(self.by_device[device] for device in sorted(self.by_device))

    def count(self, outcome: Outcome) -> int:
        """How many devices stand so."""
        return self.census.count(outcome)


def accounts_of(
    rollout: Rollout, standings: Iterable[Standing], stages: Iterable[StageRecord]
) -> Progress:
    """The accounts of a rollout whose devices stand so."""
    by_device = {one.device: one for one in standings}
    return Progress(rollout, by_device, Census(by_device.values()), tuple(stages))
