"""A plan, and how it is drafted: what is wanted, withdrawn and noted, with every reason."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.fleet.device import Device
from controller.fleet.presence import online_seconds
from controller.rollout.explain import told
from controller.rollout.facts import Place, place
from controller.rollout.gate.evidence import Evidence
from controller.rollout.ledger import Ledger
from controller.rollout.part import wants
from controller.rollout.policy import soak_asked
from controller.rollout.progress import Progress
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
        forget: rollouts whose members nobody needs any more.
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
    forget: tuple[str, ...] = ()
    progress: tuple[Progress, ...] = ()
    later: tuple[str, ...] = ()
    wishes: tuple[EvidenceWish, ...] = ()
    again_at: float = math.inf

    @property
    def because(self) -> tuple[str, ...]:
        """The whole plan in sentences."""
        return (*(line for one in self.progress for line in told(one)), *self.later)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to record."""
        rows = self.assign or self.restore or self.remove
        return not (rows or self.members or self.stages or self.rollouts or self.forget)


class Draft:
    """The facts, and what is changed of them so far.

    Attributes:
        rosters: of the open rollouts, by id.
        changed: members by rollout and device.
        notes: devices by sentence, by rollout.
    """

    def __init__(self, ledger: Ledger, evidence: Mapping[str, Evidence], now: float) -> None:
        self.known = ledger.known
        self.rosters = ledger.rosters
        self.evidence = evidence
        self.now = now
        self.assign: dict[Place, Wanted] = {}
        self.restore: dict[Place, Wanted] = {}
        self.remove: dict[Place, Wanted] = {}
        self.changed: dict[str, dict[str, Member]] = {}
        self.stages: list[StageRecord] = []
        self.rollouts: list[Rollout] = []
        self.forget: list[str] = []
        self.wishes: list[EvidenceWish] = []
        self.notes: dict[str, dict[str, list[str]]] = {}
        self.again_at = ledger.again_at

    def note(self, rollout: str, sentence: str, device: str) -> None:
        """The sentence holds for the device, too."""
        self.notes.setdefault(rollout, {}).setdefault(sentence, []).append(device)

    def put(self, member: Member) -> None:
        """The member as it is from now on."""
        self.changed.setdefault(member.rollout, {})[member.device] = member

    def member(self, rollout: Rollout, device: str) -> Member | None:
        """The device's membership as it is from now on."""
        changed = self.changed.get(rollout.id, {}).get(device)
        return changed or self.known.members_of(rollout.id).get(device)

    def is_released(self, rollout: Rollout, device: str) -> bool:
        """Whether the rollout has released the device, by this plan or before."""
        member = self.member(rollout, device)
        return member is not None and member.stage != CONTROL

    def release(self, rollout: Rollout, device: Device, stage: int) -> None:
        """The device is a member, and the version is wanted of it.

        One that was a member before, and was put back or away, stays in its stage.
        """
        known = self.known
        where = (device.id, rollout.model, rollout.slot)
        earlier = before(rollout, known.row(where), known.said(where), known.releases)
        online = online_seconds(device, self.now)
        member = Member(rollout.id, device.id, stage, self.now, online, earlier)
        was = self.member(rollout, device.id)
        if was is not None and was.stage != CONTROL:
            attempt = was.attempt + was.reverted
            earlier = earlier or was.before
            member = replace(member, stage=was.stage, before=earlier, attempt=attempt)
        self.put(member)
        self.want(rollout, member)

    def want(self, rollout: Rollout, member: Member) -> None:
        """The version is wanted of the member."""
        where = (member.device, rollout.model, rollout.slot)
        row = self.known.row(where)
        if wants(row, rollout, member):
            return
        wanted = Wanted(
            *where,
            rollout.version,
            rollout.id,
            self.now,
            member.attempt,
            soak_asked(rollout.policy, member.stage),
        )
        self.assign[where] = wanted
        instead = row is not None and row.version != rollout.version
        before_it = f" instead of {row.model}/{row.version}" if row is not None and instead else ""
        self.note(rollout.id, f"assigned{before_it}", member.device)

    def revert(self, rollout: Rollout, members: Iterable[Member]) -> None:
        """The members go back to what they ran before."""
        changed, known = self.changed.get(rollout.id, {}), self.known
        due = [changed.get(one.device, one) for one in members]
        found = reversal(rollout, due, known.row, known.said, known.releases)
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
            forget=tuple(self.forget),
            progress=tuple(progress),
            later=tuple(later),
            wishes=tuple(self.wishes),
            again_at=self.again_at,
        )
