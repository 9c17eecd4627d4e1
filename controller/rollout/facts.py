"""What a plan is made from: frozen values, gathered by ``actions.gather``, and how they are found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.registry import version as registry
from controller.rollout.gate.evidence import Evidence
from controller.rollout.rollout import Member, Rollout, StageRecord, Wanted
from controller.rollout.standing import Standing
from protos.manifest import Needs

Place = tuple[str, str, str]
"""Device, model, slot: where one version at a time runs."""

Spot = tuple[str, str]
"""Model and slot: a place of a device that is known."""


@dataclass(frozen=True, slots=True)
class Release:
    """A registered version, as much of it as rollouts need.

    Attributes:
        sha256, length: of the manifest.
        model_sha256: of the one file that every runtime loads; empty if it is not known, and then a
            report that names any proves that something is loaded.
    """

    model: str
    version: int
    state: registry.State
    sha256: str
    length: int
    needs: Needs
    minimum_agent: str = ""
    model_sha256: str = ""

    @property
    def reference(self) -> str:
        """``digits/3``."""
        return f"{self.model}/{self.version}"

    @property
    def published(self) -> bool:
        """Whether devices may run it."""
        return self.state is registry.State.PUBLISHED


Releases = Mapping[tuple[str, int], Release]
"""By model and version."""


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
    releases: Releases = field(default_factory=dict)
    asked: Mapping[Place, int] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    closed: Mapping[str, tuple[Standing, ...]] = field(default_factory=dict)


class DeviceFacts(msgspec.Struct, frozen=True):
    """What is known of one device, but for its part in rollouts.

    Attributes:
        device: None if it is not in the fleet (any more).
        asked: as ``Facts.asked``, by model and slot.
    """

    id: str
    device: Device | None = None
    rows: tuple[Wanted, ...] = ()
    slots: tuple[SlotState, ...] = ()
    asked: Mapping[Spot, int] = msgspec.field(default_factory=dict)

    def row(self, model: str, slot: str) -> Wanted | None:
        """What is wanted there."""
        for row in self.rows:
            if row.model == model and row.slot == slot:
                return row
        return None

    def said(self, model: str, slot: str) -> tuple[SlotState, ...]:
        """What reports say of the place."""
        return tuple(one for one in self.slots if one.model == model and one.slot == slot)

    @property
    def is_active(self) -> bool:
        """Whether it is in the fleet."""
        return self.device is not None and self.device.status is DeviceStatus.ACTIVE


NOBODY: Final[Mapping[str, Member]] = {}


class Known:
    """The facts, found quickly. Whoever owns it changes it as they change (``ledger.py``).

    Attributes:
        rollouts, by_device, members, records: by id; members by rollout and device.
        releases, closed: as in ``Facts``.
    """

    def __init__(self) -> None:
        self.rollouts: dict[str, Rollout] = {}
        self.by_device: dict[str, DeviceFacts] = {}
        self.members: dict[str, dict[str, Member]] = {}
        self.records: dict[str, tuple[StageRecord, ...]] = {}
        self.releases: Releases = {}
        self.closed: Mapping[str, tuple[Standing, ...]] = {}

    def release(self, rollout: Rollout) -> Release | None:
        """The rollout's version."""
        return self.releases.get((rollout.model, rollout.version))

    def device(self, device: str) -> Device | None:
        """The device, if it is in the fleet."""
        known = self.by_device.get(device)
        return None if known is None else known.device

    def is_active(self, device: str) -> bool:
        """Whether it is in the fleet, and not revoked."""
        known = self.by_device.get(device)
        return known is not None and known.is_active

    def row(self, where: Place) -> Wanted | None:
        """What is wanted there."""
        known = self.by_device.get(where[0])
        return None if known is None else known.row(where[1], where[2])

    def said(self, where: Place) -> Sequence[SlotState]:
        """What reports say of the place."""
        known = self.by_device.get(where[0])
        return () if known is None else known.said(where[1], where[2])

    def members_of(self, rollout: str) -> Mapping[str, Member]:
        """By device."""
        return self.members.get(rollout, NOBODY)


def by_device(facts: Facts) -> Mapping[str, DeviceFacts]:
    """What is known of each device, also of those that are gone and of which something is left."""
    rows: dict[str, list[Wanted]] = {}
    for row in facts.wanted:
        rows.setdefault(row.device, []).append(row)
    slots: dict[str, list[SlotState]] = {}
    for slot in facts.slots:
        slots.setdefault(slot.device, []).append(slot)
    asked: dict[str, dict[Spot, int]] = {}
    for (device, *spot), generation in facts.asked.items():
        asked.setdefault(device, {})[spot[0], spot[1]] = generation
    devices = {one.id: one for one in facts.devices}
    members = {one.device for one in facts.members}
    return {
        device: DeviceFacts(
            device,
            devices.get(device),
            tuple(rows.get(device, ())),
            tuple(slots.get(device, ())),
            asked.get(device, _NOTHING),
        )
        for device in {**devices, **rows, **slots, **dict.fromkeys(members)}
    }


def memberships(members: Iterable[Member]) -> Mapping[str, list[Member]]:
    """The members by device."""
    found: dict[str, list[Member]] = {}
    for member in members:
        found.setdefault(member.device, []).append(member)
    return found


_NOTHING: Final[Mapping[Spot, int]] = {}


def records_by_rollout(stages: Iterable[StageRecord]) -> dict[str, tuple[StageRecord, ...]]:
    """The stages of each rollout, by number."""
    found: dict[str, list[StageRecord]] = {}
    for record in sorted(stages, key=lambda one: one.number):
        found.setdefault(record.rollout, []).append(record)
    return {rollout: tuple(records) for rollout, records in found.items()}


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
    """Whether a signed report says that exactly this version answers requests and is committed.

    It names the digest of the file that the runtime has loaded, and that is the manifest's.
    """
    return release is not None and any(
        slot.model_sha256 and is_committed(slot, release) for slot in slots
    )


def is_committed(slot: SlotState, release: Release) -> bool:
    """Whether the slot is this version's, proven on the device, and loads no other file.

    It may load none yet: a device that starts reports before its runtime has the file.
    """
    return (
        slot.running
        and slot.state == "committed"
        and slot.version == release.version
        and slot.manifest_sha256 == release.sha256
        and slot.model_sha256 in {"", release.model_sha256 or slot.model_sha256}
    )


def runs(model: str, slots: Iterable[SlotState], releases: Releases) -> tuple[Release, ...]:
    """The versions of the model that may be run and that the device has come to run.

    Loaded or not: a device that is only starting must not lose what it falls back to.
    """
    found = ((one, releases.get((model, one.version))) for one in slots)
    return tuple(of for one, of in found if of and of.published and is_committed(one, of))
