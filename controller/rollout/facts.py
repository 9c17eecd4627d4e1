"""What a plan is made from: frozen values, gathered by ``actions.gather``, and how they are found."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.fleet.device import Device, SlotState
from controller.registry import version as registry
from controller.rollout.gate.evidence import Evidence
from controller.rollout.rollout import Member, Rollout, StageRecord, Wanted
from controller.rollout.standing import Standing
from protos.manifest import Needs

Place = tuple[str, str, str]
"""Device, model, slot: where one version at a time runs."""


@dataclass(frozen=True, slots=True)
class Release:
    """A registered version, as much of it as rollouts need. ``length`` is the manifest's."""

    model: str
    version: int
    state: registry.State
    sha256: str
    length: int
    needs: Needs
    minimum_agent: str = ""

    @property
    def reference(self) -> str:
        """``digits/3``."""
        return f"{self.model}/{self.version}"

    @property
    def published(self) -> bool:
        """Whether devices may run it."""
        return self.state is registry.State.PUBLISHED


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known when a plan is made.

    Attributes:
        slots: what signed reports say.
        asked: by place, the generation of the first of the directives without a gap up to the
            newest that ask for the present ``wanted`` row; no entry while none does. A failure
            that was reported for an older generation answers an older question.
        members: of the rollouts that have not ended, and of those that have succeeded.
        stages: of all rollouts, by number.
        evidence: by rollout, what gates judge, where a plan has asked for it.
        closed: how devices stood when their rollout began to go back, by rollout.
    """

    rollouts: tuple[Rollout, ...] = ()
    devices: tuple[Device, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    slots: tuple[SlotState, ...] = ()
    releases: Mapping[tuple[str, int], Release] = field(default_factory=dict)
    asked: Mapping[Place, int] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    closed: Mapping[str, tuple[Standing, ...]] = field(default_factory=dict)


def place(row: Wanted | SlotState) -> Place:
    """Where it runs."""
    return row.device, row.model, row.slot


def age(rollout: Rollout) -> tuple[float, str]:
    """Greater is newer; no two rollouts are equal in it."""
    return rollout.created_at, rollout.id


def slots_by_place(slots: Iterable[SlotState]) -> Mapping[Place, tuple[SlotState, ...]]:
    """What the reports say of each place: what runs there and what is being tried."""
    found: dict[Place, tuple[SlotState, ...]] = {}
    for slot in slots:
        where = (slot.device, slot.model, slot.slot)
        others = found.get(where)
        found[where] = (slot,) if others is None else (*others, slot)
    return found


def proven(slots: Iterable[SlotState], release: Release | None) -> bool:
    """Whether a signed report says that exactly this version answers requests and is committed."""
    return release is not None and any(
        slot.running
        and slot.state == "committed"
        and slot.version == release.version
        and slot.manifest_sha256 == release.sha256
        for slot in slots
    )


def runs(model: str, slots: Iterable[SlotState], facts: Facts) -> tuple[Release, ...]:
    """The versions of the model that may be run and that the reports prove."""
    said = tuple(slots)
    found = (facts.releases.get((model, one.version)) for one in said if one.running)
    return tuple(one for one in found if one and one.published and proven(said, one))
