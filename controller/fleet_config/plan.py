"""What applying a fleet's file would change, before anything does. Pure.

Rules:

1. A file is compared with the newest rollout that its fleet has for the same model and slot. The same
   version, selector and policy are left alone; anything else starts a newer rollout, which takes the
   devices over.
2. What was aborted or rolled back is not started again by the same file: only by another version or
   policy, or if somebody says so.
3. Rollouts of the fleet that the file no longer asks for are told, and ended only if somebody says so.
"""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from controller.fleet.attributes import attributes
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.presence import Presence, presence
from controller.fleet.selector import Selector, matches
from controller.fleet.selector_parser import parse
from controller.fleet_config.estimate import Assumed, Candidate, Estimate, estimate, sites_of
from controller.fleet_config.fleet import Fleet, Goal
from controller.rollout.cohort import control_group, order
from controller.rollout.compatibility import Compatibility
from controller.rollout.facts import Facts, Release, age, proven, slots_by_place
from controller.rollout.rollout import OPEN, Rollout, State

UTC: Final = "UTC"
STANDING: Final = OPEN | {State.SUCCEEDED}
STOPPED: Final = frozenset({State.ABORTED, State.ROLLING_BACK, State.ROLLED_BACK})


class Action(StrEnum):
    """What applying would do for one model."""

    START = "start"  # nothing of this fleet is there
    SUPERSEDE = "supersede"  # a newer rollout takes over from what is there
    UNCHANGED = "unchanged"
    STOPPED = "stopped"  # the same was aborted or rolled back, and is left so


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a goal means now, by device id.

    Attributes:
        devices: that match and can run the version.
        already: of these, those that have proven that they run it.
        offline: of these, those without a link now.
        incompatible: by reason, devices that match and can't run it.
        taken: by rollout that is not this fleet's, how many devices are its by now.
        zoneless: devices whose time zone is not known, where windows ask for it.
    """

    devices: tuple[str, ...] = ()
    already: tuple[str, ...] = ()
    offline: tuple[str, ...] = ()
    incompatible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)
    zoneless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoalPlan:
    """What would happen for one model.

    Attributes:
        version: that the file's reference means now.
        rollout: the one that is there, or the id that a new one would bear.
        replaces: the rollout that a new one takes over from; empty if there is none.
        state: of the one that is there; empty if it would be new.
        differs: what is not as in the one that it replaces: version, selector, policy.
        sites: by site, devices that have something to fetch, and their bytes.
        times: of a new rollout; None if there is none.
    """

    goal: Goal
    version: int
    action: Action
    rollout: str
    replaces: str = ""
    state: str = ""
    differs: tuple[str, ...] = ()
    reach: Reach = Reach()
    bundle_bytes: int = 0
    sites: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    times: Estimate | None = None

    @property
    def changes(self) -> bool:
        """Whether a rollout would start."""
        return self.action in {Action.START, Action.SUPERSEDE}


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What applying the file would do.

    Attributes:
        leftover: rollouts of the fleet that the file no longer asks for, newest first.
        unmatched: active devices of the fleet that no model of it means.
    """

    fleet: Fleet
    goals: tuple[GoalPlan, ...]
    leftover: tuple[Rollout, ...]
    unmatched: tuple[str, ...]
    at: float
    assumed: Assumed

    @property
    def changes(self) -> bool:
        """Whether applying would start anything."""
        return any(one.changes for one in self.goals)


@dataclass(frozen=True, slots=True)
class Download:
    """How many bytes a version is, manifest and all.

    Attributes:
        whole: for who has nothing of it.
        parent: the version that its model is a step from, if it is one.
        from_parent: for who runs the parent.
    """

    whole: int
    parent: int | None = None
    from_parent: int = 0

    def bytes_for(self, running: Collection[int]) -> int:
        """For a device that runs these versions."""
        return self.from_parent if self.parent in running else self.whole


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan is made from, beside the rollouts' facts.

    Attributes:
        versions: what the goals' references mean now, in their order.
        downloads: by model and version, what there is to fetch.
        again: what was aborted or rolled back shall start again.
    """

    fleet: Fleet
    versions: Sequence[Release]
    downloads: Mapping[tuple[str, int], Download]
    again: bool = False
    assumed: Assumed = field(default_factory=Assumed)


def plan(asked: Question, facts: Facts, now: float) -> FleetPlan:
    """What applying the file would do at ``now`` (Unix seconds)."""
    look = _Look(asked, facts, now)
    goals = tuple(
        look.goal(goal, release)
        for goal, release in zip(asked.fleet.goals, asked.versions, strict=True)
    )
    return FleetPlan(
        fleet=asked.fleet,
        goals=goals,
        leftover=_leftover(asked.fleet, facts.rollouts),
        unmatched=look.unmatched(),
        at=now,
        assumed=asked.assumed,
    )


def _leftover(fleet: Fleet, rollouts: Iterable[Rollout]) -> tuple[Rollout, ...]:
    """A rollout of an older version for the same devices is none: the newer one goes before it."""
    asked = {(one.model, one.slot, one.selector) for one in fleet.goals}
    found = [
        one
        for one in rollouts
        if one.fleet == fleet.name
        and one.state in STANDING
        and (one.model, one.slot, one.selector) not in asked
    ]
    return tuple(sorted(found, key=age, reverse=True))


class _Look:
    """One look at the devices, for every goal of a file."""

    def __init__(self, asked: Question, facts: Facts, now: float) -> None:
        self._asked = asked
        self._facts = facts
        self._now = now
        self._devices = sorted(
            (one for one in facts.devices if one.status is DeviceStatus.ACTIVE),
            key=lambda one: one.id,
        )
        self._seen = {one.id: attributes(one) for one in self._devices}
        self._slots = slots_by_place(facts.slots)
        self._owners = {(row.device, row.model, row.slot): row.rollout for row in facts.wanted}
        self._mine = {one.id for one in facts.rollouts if one.fleet == asked.fleet.name}
        self._ids = {one.id for one in facts.rollouts}
        self._meant: set[str] = set()

    def goal(self, goal: Goal, release: Release) -> GoalPlan:
        """What would happen for one model."""
        action, there = self._action(goal, release)
        matching = self._matching(goal.selector)
        self._meant |= {one.id for one in matching}
        reach, able = self._reach(goal, release, matching)
        made = GoalPlan(
            goal=goal,
            version=release.version,
            action=action,
            rollout=there.id if there else "",
            state=there.state.value if there else "",
            reach=reach,
            differs=_differences(goal, release, there) if there else (),
            bundle_bytes=self._asked.downloads[release.model, release.version].whole,
        )
        return made if not made.changes else self._begun(made, there, able)

    def unmatched(self) -> tuple[str, ...]:
        """Devices of the fleet that no goal has meant."""
        fleet = self._matching(self._asked.fleet.selector)
        return tuple(one.id for one in fleet if one.id not in self._meant)

    def _action(self, goal: Goal, release: Release) -> tuple[Action, Rollout | None]:
        own = [
            one
            for one in self._facts.rollouts
            if (one.fleet, one.model, one.slot) == (self._asked.fleet.name, goal.model, goal.slot)
        ]
        newest = max(own, key=age, default=None)
        if newest is None:
            return Action.START, None
        if not _differences(goal, release, newest):
            if newest.state in STANDING:
                return Action.UNCHANGED, newest
            if newest.state in STOPPED and not self._asked.again:
                return Action.STOPPED, newest
        return Action.SUPERSEDE, newest

    def _begun(self, made: GoalPlan, there: Rollout | None, able: Sequence[Device]) -> GoalPlan:
        """The rollout that would start."""
        goal, policy = made.goal, made.goal.policy
        name = self._next_id(goal.model, made.version)
        strata = {
            one.id: tuple(self._seen[one.id].get(key, "") for key in policy.stratify_by)
            for one in (able if policy.stratify_by else ())
        }
        by_id = {one.id: one for one in able}
        drawn = order(name, list(by_id), strata)
        held = len(control_group(drawn, policy.control_percent))
        already = set(made.reach.already)
        download = self._asked.downloads[goal.model, made.version]
        selectors = [
            (number, parse(stage.selector))
            for number, stage in enumerate(policy.stages)
            if stage.selector
        ]
        candidates = [
            self._candidate(by_id[one], goal, selectors, None if one in already else download)
            for one in drawn
        ]
        return replace(
            made,
            rollout=name,
            replaces=there.id if there else "",
            state="",
            sites=sites_of(candidates),
            times=estimate(policy, candidates, held, self._now, self._asked.assumed),
        )

    def _next_id(self, model: str, version: int) -> str:
        """As the rollout will be named: the name decides who comes first."""
        ordinal = 1 + sum(
            (one.model, one.version) == (model, version) for one in self._facts.rollouts
        )
        while f"{model}-{version}-{ordinal}" in self._ids:
            ordinal += 1
        name = f"{model}-{version}-{ordinal}"
        self._ids.add(name)
        return name

    def _matching(self, selector: str) -> list[Device]:
        chosen = parse(selector)
        return [one for one in self._devices if matches(chosen, self._seen[one.id])]

    def _reach(
        self, goal: Goal, release: Release, matching: Sequence[Device]
    ) -> tuple[Reach, list[Device]]:
        able, incompatible, taken = [], dict[str, list[str]](), dict[str, int]()
        compatibility = Compatibility(release)
        for device in matching:
            if reasons := compatibility.objections(device):
                incompatible.setdefault("; ".join(reasons), []).append(device.id)
                continue
            able.append(device)
            owner = self._owners.get((device.id, goal.model, goal.slot), "")
            if owner and owner not in self._mine:
                taken[owner] = taken.get(owner, 0) + 1
        windows = bool(goal.policy.conditions.windows)
        reach = Reach(
            devices=tuple(one.id for one in able),
            already=tuple(one.id for one in able if self._runs(one, goal, release)),
            offline=tuple(one.id for one in able if presence(one, self._now) is Presence.OFFLINE),
            incompatible={reason: tuple(ids) for reason, ids in sorted(incompatible.items())},
            taken=dict(sorted(taken.items())),
            zoneless=tuple(one.id for one in able if windows and not _has_zone(one)),
        )
        return reach, able

    def _runs(self, device: Device, goal: Goal, release: Release) -> bool:
        return proven(self._slots.get((device.id, goal.model, goal.slot), ()), release)

    def _candidate(
        self,
        device: Device,
        goal: Goal,
        selectors: Sequence[tuple[int, Selector]],
        download: Download | None,
    ) -> Candidate:
        seen = self._seen[device.id]
        slots = self._slots.get((device.id, goal.model, goal.slot), ())
        running = {one.version for one in slots if one.running}
        length = 0 if download is None else download.bytes_for(running)
        return Candidate(
            device=device.id,
            site=seen.get(goal.policy.pace.site_label, ""),
            zone=_zone(device.facts.get("timezone", "")),
            length=length,
            stages=frozenset(number for number, one in selectors if matches(one, seen)),
            compares=length > 0 and bool(running),
        )


def _differences(goal: Goal, release: Release, there: Rollout) -> tuple[str, ...]:
    """What of the rollout is not as the file asks."""
    pairs = (
        ("version", release.version, there.version),
        ("selector", goal.selector, there.selector),
        ("policy", goal.policy, there.policy),
    )
    return tuple(name for name, asked, have in pairs if asked != have)


@functools.lru_cache(maxsize=1024)
def _zone(name: str) -> str:
    """The time zone of that name; UTC if none is known here."""
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _has_zone(device: Device) -> bool:
    name = device.facts.get("timezone", "")
    return bool(name) and _zone(name) == name
