"""How a rollout stands, device by device, and what that comes to.

Rules:

1. OK is *proven running*: a report signed by the device says that this version answers requests,
   with the right manifest digest, committed, and names the digest of the file that its runtime has
   loaded, which is the manifest's. Nothing else is OK. It soaks until such a report says
   that the version has answered for as long as the stage asks: the device counts that by its own
   monotonic clock, so no clock that is set here ends or lengthens a soak.
2. FAILED is a report, for the present attempt, that says failed.
3. UNREACHABLE was told, and is silent since for longer than the policy allows; or it had more
   online time than the stage allows and has proven nothing; or it had as much more as the soak takes,
   and has not said that it has soaked.
4. DEFERRED waits on purpose: for its window, for power, for a link that costs nothing, for a server
   that is busy. That takes nothing from its time. Who is put off by anything else, such as a full
   disk, is WAITING, and its time runs out.
5. AWAY has no link, and has not been told yet. It is neither good nor bad.
6. Everything else is WAITING.
7. Nobody waits for a device that was REVERTED to what it ran before, or that KEEPs what it was
   assigned when its rollout ended.
8. Who has proven the version and soaked, and says after a restart that it is not loaded yet, is
   WAITING for so long as loading may take on one link, whatever time it has had before; one that
   falls silent meanwhile is AWAY. A power cut says nothing of the version, and breaks no budget.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from controller.fleet.device import Device, SlotState
from controller.fleet.presence import Presence, online_seconds, presence
from controller.rollout.facts import Release, is_committed, proven
from controller.rollout.policy import Stage
from controller.rollout.rollout import Member
from controller.rollout.standing import Census, Kind, Outcome, Standing
from protos.documents import HELD

ON_PURPOSE: Final = HELD | {"too-many-calls"}
"""Codes of devices that wait for what they were told to wait for, or because the server is busy.

All else that puts an install off counts as time: a full disk, a download that never ends."""
SOAK: Final = "soak"
"""The code of a device that runs the version, has a link, and does not come to the end of its soak."""
OFFLINE: Final = "offline"
"""The code of a device that was told, has no link now, and is waited for."""
LOADING_SECONDS: Final = 300.0
"""For so long on one link a device that has soaked may load the version anew (rule 8)."""
NOT_LOADED: Final = "committed but not loaded"
"""What a device does that has nothing loaded, and has not proven the version for as long as it has to."""
ANEW: Final = "committed and loads it anew"
"""What one does that has: it has restarted, as far as anybody can know (rule 8)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the standings of one stage come to; ``soaking`` ones are among ``ok``."""

    ok: int = 0
    failed: int = 0
    unreachable: int = 0
    waiting: int = 0
    deferred: int = 0
    away: int = 0
    soaking: int = 0

    @property
    def told(self) -> int:
        """Devices that could have shown by now what becomes of them."""
        return self.ok + self.failed + self.unreachable + self.waiting

    @property
    def decided(self) -> int:
        """Devices that have shown it."""
        return self.ok - self.soaking + self.failed + self.unreachable

    @property
    def size(self) -> int:
        """All of them."""
        return self.told + self.deferred + self.away


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one device: everything but what it answers.

    Attributes:
        release: the rollout's version; None if it is not known (any more), which proves nothing.
        asked: ``Facts.asked`` of the place.
        silence_seconds: of the policy.
    """

    member: Member
    stage: Stage
    release: Release | None
    asked: int | None
    silence_seconds: float


def standing(
    device: Device, slots: Iterable[SlotState], question: Question, now: float
) -> Standing:
    """How one device stands at ``now`` (Unix seconds), by what reports say of the place."""
    said, number = tuple(slots), question.member.stage
    if proven(said, question.release):
        return _proven(device, soaked(said, question.release), question, now)
    version = None if question.release is None else question.release.version
    tried = [one for one in said if one.version == version and one.state != "idle"]
    latest = max(tried, key=lambda one: (one.counter, not one.running), default=None)
    asked = question.asked
    if latest is not None and latest.state == "failed":
        if asked is not None and latest.generation >= asked:
            return Standing(device.id, Outcome.FAILED, "failed", latest.code, latest.detail, number)
        latest = None  # in an earlier attempt, which says nothing of this one
    doing, code, detail = _doing(latest, question)
    outcome = _undecided(device, doing, code, question, now)
    offline = presence(device, now) is Presence.OFFLINE
    if outcome is Outcome.UNREACHABLE and not code:
        code = "silent" if offline else "deadline"
    elif offline and outcome is Outcome.WAITING:
        code = OFFLINE
    return Standing(device.id, outcome, doing, code, detail, number)


def soaked(slots: Iterable[SlotState], release: Release | None) -> int:
    """For how many seconds the version has answered, as the reports prove."""
    return max((one.soaked for one in slots if proven((one,), release)), default=0)


def _proven(device: Device, seconds: int, question: Question, now: float) -> Standing:
    """How a device stands that runs the version, and has soaked for so many seconds."""
    member, soak = question.member, question.stage.soak_seconds
    told = Standing(device.id, Outcome.OK, "committed", stage=member.stage)
    if seconds >= soak:
        return told
    outcome, code, detail = Outcome.OK, "", ""
    if presence(device, now) is Presence.OFFLINE:
        outcome = _gone(device, question, now) or Outcome.OK
        code = "silent" if outcome is Outcome.UNREACHABLE else ""
    elif spent(member, device, now) > question.stage.deadline_seconds + soak:
        outcome, code = Outcome.UNREACHABLE, SOAK
        detail = (
            f"runs it, and has not said that it has for {soak:g} s at a stretch: see in its log why "
            "it restarts, or update its agent if that is too old to say so"
        )
    until = (member.proven_at or now) + soak if outcome is Outcome.OK else 0.0
    return replace(told, outcome=outcome, code=code, detail=detail, soaks_until=until)


def _gone(device: Device, question: Question, now: float) -> Outcome | None:
    """What a device without a link is; None while it is waited for."""
    if online_seconds(device, now) <= question.member.online_at:
        return Outcome.AWAY
    silent = now - max(device.last_seen, question.member.released_at)
    return Outcome.UNREACHABLE if silent > question.silence_seconds else None


def _doing(latest: SlotState | None, question: Question) -> tuple[str, str, str]:
    if latest is None:
        return "", "", ""
    odd = latest.running and latest.state == "committed"  # and yet not proven
    doing = _unproven(latest, question) if odd else latest.state
    return doing, latest.code, latest.detail


def _unproven(slot: SlotState, question: Question) -> str:
    """What a committed slot is that proves nothing."""
    release = question.release
    if release is None or slot.manifest_sha256 != release.sha256:
        return "committed with another manifest"
    if not is_committed(slot, release):
        return "committed with another file"
    has_soaked = question.member.proven_at and slot.soaked >= question.stage.soak_seconds
    return ANEW if has_soaked else NOT_LOADED


def _undecided(device: Device, doing: str, code: str, question: Question, now: float) -> Outcome:
    """Rules 3 to 6, and 8."""
    anew = doing == ANEW
    if presence(device, now) is Presence.OFFLINE:
        gone = _gone(device, question, now)
        if gone is Outcome.UNREACHABLE and anew:
            return Outcome.AWAY
        return gone or Outcome.WAITING
    if code in ON_PURPOSE:
        return Outcome.DEFERRED
    late = _left(device, doing, question, now) < 0
    return Outcome.UNREACHABLE if late else Outcome.WAITING


def _left(device: Device, doing: str, question: Question, now: float) -> float:
    """For how many seconds more a device with a link is waited for that has proven nothing."""
    member, stage = question.member, question.stage
    due = stage.deadline_seconds
    if doing == NOT_LOADED and member.proven_at:
        due += stage.soak_seconds  # it soaks, and begins again
    left = due - spent(member, device, now)
    if doing != ANEW:
        return left
    linked = online_seconds(device, now) - device.online_seconds
    return max(left, LOADING_SECONDS - linked)


def changes_at(device: Device, stands: Standing, question: Question, now: float) -> float:
    """When time alone makes another standing of it, in Unix seconds; infinite if it never does."""
    if stands.outcome is not Outcome.WAITING and not stands.soaks_until:
        return math.inf
    released_at = question.member.released_at
    if presence(device, now) is Presence.OFFLINE:
        return max(device.last_seen, released_at) + question.silence_seconds
    if not stands.soaks_until:
        return now + max(0.0, _left(device, stands.doing, question, now))
    due = question.stage.deadline_seconds + question.stage.soak_seconds
    return now + max(0.0, due - spent(question.member, device, now))


def spent(member: Member, device: Device, now: float) -> float:
    """How much of its time online the device has used since its release, waits on purpose left out."""
    online = online_seconds(device, now)
    until = online if member.deferred_at is None else min(online, member.deferred_at)
    return until - member.online_at


def timed(member: Member, device: Device, outcome: Outcome, now: float) -> Member:
    """The member with its waits on purpose noted, now that the device stands so.

    A link that is down is no end of a wait: no time online passes meanwhile.
    """
    online = online_seconds(device, now)
    if outcome is Outcome.DEFERRED:
        return member if member.deferred_at is not None else replace(member, deferred_at=online)
    if member.deferred_at is None or presence(device, now) is Presence.OFFLINE:
        return member
    return replace(member, online_at=online - spent(member, device, now), deferred_at=None)


def tally(standings: Iterable[Standing]) -> Tally:
    """What they come to; REVERTED and KEPT ones count nowhere."""
    return _sum((Kind.of(one), 1) for one in standings)


def tallied(census: Census, *, first: int = 0, last: float = math.inf) -> Tally:
    """Likewise, of the stages from ``first`` to ``last``."""
    return _sum(
        (kind, len(devices)) for kind, devices in census.groups() if first <= kind.stage <= last
    )


def _sum(counted: Iterable[tuple[Kind, int]]) -> Tally:
    counts = dict.fromkeys(Outcome, 0)
    soaking = 0
    for kind, count in counted:
        counts[kind.outcome] += count
        soaking += count if kind.soaks else 0
    return Tally(
        ok=counts[Outcome.OK],
        failed=counts[Outcome.FAILED],
        unreachable=counts[Outcome.UNREACHABLE],
        waiting=counts[Outcome.WAITING],
        deferred=counts[Outcome.DEFERRED],
        away=counts[Outcome.AWAY],
        soaking=soaking,
    )


def at_the_end(standings: Iterable[Standing], back: Mapping[str, str]) -> tuple[Standing, ...]:
    """What they are when a rollout is aborted; ``back`` says what reverted devices were put back to."""
    found = []
    for one in standings:
        if one.outcome in {
            Outcome.FAILED,
            Outcome.REVERTED,
        }:  # why it failed is worth more than what became of it
            found.append(one)
        elif one.device in back:
            detail = back[one.device]
            found.append(Standing(one.device, Outcome.REVERTED, detail=detail, stage=one.stage))
        elif one.outcome is Outcome.OK:
            found.append(one)
        else:
            detail = f"was {one.doing}" if one.doing else ""
            found.append(Standing(one.device, Outcome.KEPT, detail=detail, stage=one.stage))
    return tuple(found)
