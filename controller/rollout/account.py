"""How a rollout stands, device by device, and what that comes to.

Rules:

1. OK is *proven running*: a report signed by the device says that this version answers requests,
   with the right manifest digest, committed. Nothing else is OK.
2. FAILED is a report, for the present directive or a later one, that says failed.
3. Everything else is WAITING, or UNREACHABLE while there is no link; neither is ever a failure.
4. Nobody waits for a rollout that was aborted: a device was REVERTED to what it ran before, or KEPT
   what it was assigned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controller.fleet.device import Device, SlotState
from controller.fleet.presence import Presence, presence
from controller.rollout.facts import Release, proven
from controller.rollout.rollout import Rollout


class Outcome(StrEnum):
    """What a device's part in a rollout has come to."""

    OK = "ok"
    FAILED = "failed"
    WAITING = "waiting"
    UNREACHABLE = "unreachable"
    REVERTED = "reverted"
    KEPT = "kept"


DECIDED = frozenset({Outcome.OK, Outcome.FAILED})


@dataclass(frozen=True, slots=True)
class Standing:
    """One device in one rollout.

    Attributes:
        doing: the install state that it last reported for the version; empty if none.
        code: why it failed, or what it waits for.
        detail: of the code; of a REVERTED device, what it was put back to.
    """

    device: str
    outcome: Outcome
    doing: str = ""
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """One rollout's accounts.

    Attributes:
        rollout: as it is after the plan.
        standings: the devices that it has assigned the version to, by id.
        incompatible: devices that match and can't run it, each with the reasons.
        taken: devices that match and that a newer rollout has, by its id.
        lines: all of it as sentences; the first one is the sum.
    """

    rollout: Rollout
    standings: tuple[Standing, ...] = ()
    incompatible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """How many devices stand so."""
        return sum(standing.outcome is outcome for standing in self.standings)

    @property
    def decided(self) -> bool:
        """Whether there are devices, and every one is OK or FAILED."""
        return bool(self.standings) and all(one.outcome in DECIDED for one in self.standings)


def standing(
    device: Device,
    release: Release | None,
    slots: Iterable[SlotState],
    asked: int | None,
    now: float,
) -> Standing:
    """How one device stands.

    Args:
        device: as it is known.
        release: the rollout's version; None if it is not known (any more), which proves nothing.
        slots: what reports say of the place.
        asked: ``Facts.asked`` of the place.
        now: Unix seconds.
    """
    said = tuple(slots)
    if proven(said, release):
        return Standing(device.id, Outcome.OK, "committed")
    version = None if release is None else release.version
    tried = [one for one in said if one.version == version and one.state != "idle"]
    latest = max(tried, key=lambda one: (one.counter, not one.running), default=None)
    if latest is None:
        return Standing(device.id, _waits(device, now))
    failed = latest.state == "failed" and asked is not None and latest.generation >= asked
    if failed:
        return Standing(device.id, Outcome.FAILED, "failed", latest.code, latest.detail)
    if latest.state == "failed":  # in an earlier attempt, which says nothing of this one
        return Standing(device.id, _waits(device, now))
    odd = latest.running and latest.state == "committed"  # and yet not proven
    doing = "committed with another manifest" if odd else latest.state
    return Standing(device.id, _waits(device, now), doing, latest.code, latest.detail)


def after_abort(standings: Iterable[Standing], back: Mapping[str, str]) -> tuple[Standing, ...]:
    """What an abort makes of them; ``back`` says what each reverted device was put back to."""
    found = []
    for one in standings:
        if one.outcome is Outcome.FAILED:  # why it failed is worth more than what became of it
            found.append(one)
        elif one.device in back:
            found.append(Standing(one.device, Outcome.REVERTED, detail=back[one.device]))
        elif one.outcome is Outcome.OK:
            found.append(one)
        else:
            detail = f"was {one.doing}" if one.doing else ""
            found.append(Standing(one.device, Outcome.KEPT, detail=detail))
    return tuple(found)


def _waits(device: Device, now: float) -> Outcome:
    away = presence(device, now) is Presence.OFFLINE
    return Outcome.UNREACHABLE if away else Outcome.WAITING
