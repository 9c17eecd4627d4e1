"""A plan, and how it is drafted: what is wanted, withdrawn and noted, with every reason."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controller.fleet.device import Device, SlotState
from controller.fleet.presence import online_seconds
from controller.rollout.account import Progress
from controller.rollout.claims import Claims, claim
from controller.rollout.facts import Facts, Place, place, slots_by_place
from controller.rollout.policy import soak_asked
from controller.rollout.reversal import before, reversal
from controller.rollout.rollout import CONTROL, Member, Rollout, StageRecord, Wanted


@dataclass(frozen=True, slots=True)
class EvidenceWish:
    """What gates need to know: since when to look at whose windows, in Unix seconds by device."""

    rollout: str
    model: str
    version: int
    stage: Mapping[str, float]
    control: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record, then to carry out.

    Attributes:
        assign: rows that rollouts want, new or instead of another.
        restore: rows for what a device ran before.
        remove: rows that go.
        members, stages, rollouts: as they are from now on, of those that change.
        progress: the accounts of every rollout that has not ended, oldest first.
        later: what rollouts that have succeeded do for devices that match by now, in sentences.
        wishes: evidence without which gates can't be judged.
        again_at: when time alone may ask for another plan, in Unix seconds; infinite if only news can.
    """

    assign: tuple[Wanted, ...] = ()
    restore: tuple[Wanted, ...] = ()
    remove: tuple[Wanted, ...] = ()
    members: tuple[Member, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    progress: tuple[Progress, ...] = ()
    later: tuple[str, ...] = ()
    wishes: tuple[EvidenceWish, ...] = ()
    again_at: float = math.inf

    @property
    def because(self) -> tuple[str, ...]:
        """The whole plan in sentences."""
        return (*(line for one in self.progress for line in one.lines), *self.later)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to record."""
        rows = self.assign or self.restore or self.remove
        return not (rows or self.members or self.stages or self.rollouts)


class Draft:
    """The facts, found quickly, and what is changed of them so far.

    Attributes:
        rows, slots, devices, members, records: the facts' own, by place, device and rollout.
        notes: devices by sentence, by rollout.
    """

    def __init__(self, facts: Facts, now: float) -> None:
        self.facts = facts
        self.now = now
        self.rows = {place(row): row for row in facts.wanted}
        self.slots = slots_by_place(facts.slots)
        self.devices = {one.id: one for one in facts.devices}
        self.claims: Claims = claim(facts, self.rows)
        self.members: dict[str, dict[str, Member]] = {}
        for member in facts.members:
            self.members.setdefault(member.rollout, {})[member.device] = member
        self.records: dict[str, list[StageRecord]] = {}
        for record in sorted(facts.stages, key=lambda one: one.number):
            self.records.setdefault(record.rollout, []).append(record)
        self.assign: dict[Place, Wanted] = {}
        self.restore: dict[Place, Wanted] = {}
        self.remove: dict[Place, Wanted] = {}
        self.changed: dict[str, dict[str, Member]] = {}
        self.stages: list[StageRecord] = []
        self.rollouts: list[Rollout] = []
        self.wishes: list[EvidenceWish] = []
        self.notes: dict[str, dict[str, list[str]]] = {}
        self.again_at = math.inf

    def said(self, where: Place) -> Sequence[SlotState]:
        """What reports say of the place."""
        return self.slots.get(where, ())

    def note(self, rollout: str, sentence: str, device: str) -> None:
        """The sentence holds for the device, too."""
        self.notes.setdefault(rollout, {}).setdefault(sentence, []).append(device)

    def put(self, member: Member) -> None:
        """The member as it is from now on."""
        self.changed.setdefault(member.rollout, {})[member.device] = member

    def lapsed(self, rollout: Rollout) -> frozenset[str]:
        """Members that were put back, or whose place was not the rollout's for a while."""
        found = set()
        for device, member in self.members.get(rollout.id, {}).items():
            row = self.rows.get((device, rollout.model, rollout.slot))
            away = row is None or row.rollout != rollout.id
            if member.stage != CONTROL and (member.reverted or away):
                found.add(device)
        return frozenset(found)

    def members_after(self, rollout: str) -> Mapping[str, Member]:
        """The rollout's members as they are from now on, by device."""
        return {**self.members.get(rollout, {}), **self.changed.get(rollout, {})}

    def is_released(self, rollout: Rollout, device: str) -> bool:
        """Whether the rollout has released the device, by this plan or before."""
        member = self.changed.get(rollout.id, {}).get(device)
        member = member or self.members.get(rollout.id, {}).get(device)
        return member is not None and member.stage != CONTROL

    def release(self, rollout: Rollout, device: Device, stage: int) -> None:
        """The device is a member, and the version is wanted of it.

        One that was a member before, and was put back or away, stays in its stage.
        """
        where = (device.id, rollout.model, rollout.slot)
        earlier = before(rollout, self.rows.get(where), self.said(where), self.facts)
        online = online_seconds(device, self.now)
        member = Member(rollout.id, device.id, stage, self.now, online, earlier)
        known = self.members_after(rollout.id).get(device.id)
        if known is not None and known.stage != CONTROL:
            attempt = known.attempt + known.reverted
            earlier = earlier or known.before
            member = replace(member, stage=known.stage, before=earlier, attempt=attempt)
        self.put(member)
        self.want(rollout, member)

    def want(self, rollout: Rollout, member: Member) -> None:
        """The version is wanted of the member."""
        where = (member.device, rollout.model, rollout.slot)
        row = self.rows.get(where)
        soak = soak_asked(rollout.policy, member.stage)
        same = (rollout.id, rollout.version, member.attempt, soak)
        if row and (row.rollout, row.version, row.attempt, row.soak_seconds) == same:
            return
        wanted = Wanted(*where, rollout.version, rollout.id, self.now, member.attempt, soak)
        self.assign[where] = wanted
        instead = row is not None and row.version != rollout.version
        before_it = f" instead of {row.model}/{row.version}" if row is not None and instead else ""
        self.note(rollout.id, f"assigned{before_it}", member.device)

    def revert(self, rollout: Rollout, members: Sequence[Member]) -> None:
        """The members go back to what they ran before."""
        changed = self.changed.get(rollout.id, {})
        due = [changed.get(one.device, one) for one in members]
        found = reversal(rollout, due, self.rows, self.slots, self.facts.releases)
        for row in found.restore:
            self.restore[place(row)] = row
            self.note(rollout.id, f"put back to {row.model}/{row.version}", row.device)
        for row in found.remove:
            self.remove[place(row)] = row
            self.note(rollout.id, "withdrawn, nothing ran there before", row.device)
        for device in found.left:
            self.note(rollout.id, "keep it: no earlier version is known", device)
        for member in found.members:
            self.put(member)
            self.assign.pop((member.device, rollout.model, rollout.slot), None)

    def leave(self, row: Wanted, rollout: Rollout, proven: Sequence[int]) -> None:
        """Takes from an open rollout a row that it no longer claims; ``proven`` versions run there.

        The row that stays belongs to no rollout: a later report that is silent about the version,
        as of an agent that is only starting, then takes nothing from the device.
        """
        where = place(row)
        if not proven:
            self.remove[where] = row
            self.note(rollout.id, "withdrawn, no longer match", row.device)
        elif row.version in proven:
            self.restore[where] = replace(row, rollout="")
            self.note(rollout.id, "no longer match, keep running it", row.device)
        else:
            self.restore[where] = replace(row, version=proven[0], rollout="", soak_seconds=0)
            note = f"no longer match, put back to {row.model}/{proven[0]}"
            self.note(rollout.id, note, row.device)

    def done(self, progress: Sequence[Progress], later: Sequence[str]) -> Plan:
        """The plan, in an order that depends on the facts alone."""
        return Plan(
            assign=tuple(self.assign[where] for where in sorted(self.assign)),
            restore=tuple(self.restore[where] for where in sorted(self.restore)),
            remove=tuple(self.remove[where] for where in sorted(self.remove)),
            members=tuple(
                of[device] for _, of in sorted(self.changed.items()) for device in sorted(of)
            ),
            stages=tuple(self.stages),
            rollouts=tuple(self.rollouts),
            progress=tuple(progress),
            later=tuple(later),
            wishes=tuple(self.wishes),
            again_at=self.again_at,
        )
