"""One device's part in one open rollout: what follows of the two alone, whatever others do."""

import math
from dataclasses import dataclass, replace

import msgspec

from controller.fleet.attributes import attribute, attributes
from controller.fleet.device import Device
from controller.fleet.selector import Selector, matches
from controller.fleet.selector_parser import parse
from controller.rollout.account import Question, changes_at, standing, timed
from controller.rollout.facts import DeviceFacts, Release
from controller.rollout.policy import soak_asked
from controller.rollout.rollout import CONTROL, Member, Rollout, Wanted
from controller.rollout.standing import Outcome, Standing


class Part(msgspec.Struct, frozen=True):
    """One device's part in one open rollout.

    Attributes:
        device: None if it is not in the fleet (any more).
        member: as it is from now on; None if the rollout has neither released nor drawn it.
        is_new: the member is not yet recorded so.
        owned: its place belongs to the rollout.
        lapsed: it was put back, or its place was not the rollout's for a while: it is to be released
            again.
        standing: None if it was not released, or if it is to be released again.
        again_at: when time alone makes another standing of it, in Unix seconds.
        misassigned: what is wanted of it is not what the rollout wants.
        site, stratum: values of the labels that the policy names.
        meant: numbers of the stages whose selectors match it.
    """

    device: Device | None
    member: Member | None
    is_new: bool = False
    owned: bool = False
    lapsed: bool = False
    standing: Standing | None = None
    again_at: float = math.inf
    misassigned: bool = False
    site: str = ""
    stratum: tuple[str, ...] = ()
    meant: tuple[int, ...] = ()

    @property
    def released(self) -> Member | None:
        """The member, if it has the version wanted of it or had it before it lapsed."""
        return None if self.member is None or self.member.stage == CONTROL else self.member

    @property
    def counts(self) -> Member | None:
        """The member, if it is one that the stages go by now."""
        return None if self.lapsed or not self.owned else self.released


class Shown(msgspec.Struct, frozen=True):
    """How a released device stands, what is noted of it, and when time alone changes that."""

    member: Member
    standing: Standing
    again_at: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What one open rollout asks of every device.

    Attributes:
        release: its version; None if it is not known (any more).
    """

    rollout: Rollout
    release: Release | None
    selectors: tuple[tuple[int, Selector], ...]

    @classmethod
    def of(cls, rollout: Rollout, release: Release | None) -> "Terms":
        """The rollout's."""
        stages = enumerate(rollout.policy.stages)
        selectors = tuple((at, parse(one.selector)) for at, one in stages if one.selector)
        return cls(rollout, release, selectors)

    @property
    def is_withdrawn(self) -> bool:
        """Whether nobody claims a place for it, and yet some may run it."""
        return self.release is None or not self.release.published

    def part(
        self, known: DeviceFacts, member: Member | None, now: float, *, claimed: bool
    ) -> Part | None:
        """The device's part at ``now`` (Unix seconds); None if it has none.

        ``member`` is as it is recorded; ``claimed`` if the device's place belongs to the rollout.
        """
        if member is None and not claimed:
            return None
        rollout, device = self.rollout, known.device
        row = known.row(rollout.model, rollout.slot)
        held = member is None or member.stage == CONTROL
        away = row is None or row.rollout != rollout.id
        lapsed = member is not None and not held and (member.reverted or away)
        owned = claimed
        if self.is_withdrawn:
            owned = known.is_active and member is not None and not lapsed
        if device is None or not owned:
            return Part(device, member)
        site, stratum, meant = self._placed(device)
        if member is None or held or lapsed:
            stood = None
            if member is not None and lapsed and member.reverted:
                stood = Standing(known.id, Outcome.REVERTED, stage=member.stage)
            return Part(
                device,
                member,
                owned=True,
                lapsed=lapsed,
                standing=stood,
                site=site,
                stratum=stratum,
                meant=meant,
            )
        # What it answered before people asked again says nothing of this attempt.
        asked_anew = row is not None and row.attempt != member.attempt
        shown = self.shown(known, device, member, now, asked_anew=asked_anew)
        return Part(
            device,
            shown.member,
            is_new=shown.member is not member,
            owned=True,
            standing=shown.standing,
            again_at=shown.again_at,
            misassigned=not wants(row, rollout, member),
            site=site,
            stratum=stratum,
            meant=meant,
        )

    def shown(
        self, known: DeviceFacts, device: Device, member: Member, now: float, *, asked_anew: bool
    ) -> "Shown":
        """What a released device shows; ``asked_anew`` if it has not been told the present row yet."""
        rollout, stages = self.rollout, self.rollout.policy.stages
        asked = None if asked_anew else known.asked.get((rollout.model, rollout.slot))
        # The control group is held to the terms of the last stage.
        stage, silence = stages[min(member.stage, len(stages) - 1)], rollout.policy.silence_seconds
        question = Question(member, stage, self.release, asked, silence)
        stood = standing(device, known.said(rollout.model, rollout.slot), question, now)
        after = timed(member, device, stood.outcome, now)
        if stood.outcome is Outcome.OK and not member.proven_at:
            after = replace(after, proven_at=now)
        return Shown(after, stood, changes_at(device, stood, question, now))

    def _placed(self, device: Device) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
        """Its site and stratum, and the stages whose selectors match it; empty if nobody asks."""
        policy = self.rollout.policy
        if not (policy.pace.per_site or policy.stratify_by or self.selectors):
            return "", (), ()
        site = attribute(device, policy.pace.site_label) if policy.pace.per_site else ""
        meant: tuple[int, ...] = ()
        if self.selectors:
            seen = attributes(device)
            meant = tuple(number for number, chosen in self.selectors if matches(chosen, seen))
        return site or "", tuple(attribute(device, one) or "" for one in policy.stratify_by), meant


def wants(row: Wanted | None, rollout: Rollout, member: Member) -> bool:
    """Whether the row says what the rollout wants of the member."""
    return row is not None and (row.rollout, row.version, row.attempt, row.soak_seconds) == (
        rollout.id,
        rollout.version,
        member.attempt,
        soak_asked(rollout.policy, member.stage),
    )
