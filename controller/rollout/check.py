"""What must be true of every plan and of every directive, whoever made them.

The planner is held to this before anything is recorded: a plan that breaks a rule is a bug, and is
not carried out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.fleet.attributes import attributes
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.rollout.account import tally
from controller.rollout.compatibility import objections
from controller.rollout.draft import Plan
from controller.rollout.facts import Facts, Place, age, place, proven, slots_by_place
from controller.rollout.release import MINUTE, rate
from controller.rollout.rollout import (
    ASSIGNING,
    CONTROL,
    JUDGED,
    OPEN,
    STAGE_TRANSITIONS,
    TRANSITIONS,
    Member,
    Rollout,
    StageRecord,
    StageState,
    State,
    Wanted,
)
from controller.rollout.verdict import broken_budget
from protos.documents import Directive


class InvalidPlan(Exception):
    """A plan or directive breaks a rule. A bug; nothing of it was recorded."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The facts, found quickly, and what the plan makes of them. ``rows``: whose each place is."""

    facts: Facts
    plan: Plan
    devices: Mapping[str, Device]
    rollouts: Mapping[str, Rollout]
    members: Mapping[tuple[str, str], Member]
    after: Mapping[tuple[str, str], Member]
    stages: Mapping[str, tuple[StageRecord, ...]]
    rows: Mapping[Place, str]
    now: float


def violations(facts: Facts, plan: Plan, now: float) -> tuple[str, ...]:
    """Every rule that the plan breaks, in words; empty if it may be carried out."""
    if plan.empty:
        return ()
    members = {(one.rollout, one.device): one for one in facts.members}
    known = _Known(
        facts,
        plan,
        {one.id: one for one in facts.devices},
        {one.id: one for one in facts.rollouts},
        members,
        {**members, **{(one.rollout, one.device): one for one in plan.members}},
        {one.rollout.id: one.stages for one in plan.progress},
        {place(row): row.rollout for row in facts.wanted},
        now,
    )
    return (
        *_one_row_per_place(facts, plan),
        *(line for row in plan.assign for line in _assigned(row, known)),
        *_restored(known),
        *_members(known),
        *_releases(known),
        *_states(known),
    )


def directive_violations(previous: Directive | None, directive: Directive) -> tuple[str, ...]:
    """Every rule that a directive breaks, given the newest one before it."""
    found = []
    if previous is not None and previous.device != directive.device:
        found.append(f"{directive.device}: follows a directive for {previous.device}")
    before = 0 if previous is None else previous.generation
    if directive.generation <= before:
        found.append(f"{directive.device}: generation {directive.generation} after {before}")
    slots = Counter((one.model, one.slot) for one in directive.assignments)
    found += [
        f"{directive.device}: {count} versions for {model}, {slot}"
        for (model, slot), count in slots.items()
        if count > 1
    ]
    return tuple(found)


def _one_row_per_place(facts: Facts, plan: Plan) -> Iterator[str]:
    touched = Counter(place(row) for row in (*plan.assign, *plan.restore, *plan.remove))
    yield from (
        f"{where} is changed {count} times" for where, count in touched.items() if count > 1
    )
    present = {place(row) for row in facts.wanted}
    for row in (*plan.restore, *plan.remove):
        if place(row) not in present:
            yield f"{place(row)} has no row to restore or remove"


def _assigned(row: Wanted, known: _Known) -> Iterator[str]:
    release = known.facts.releases.get((row.model, row.version))
    rollout, device = known.rollouts.get(row.rollout), known.devices.get(row.device)
    if release is None or not release.published:
        yield f"{row.model}/{row.version} is not published"
    if rollout is None or rollout.state not in OPEN | ASSIGNING:
        yield f"{row.rollout} assigns nothing"
        return
    if (rollout.model, rollout.slot, rollout.version) != (row.model, row.slot, row.version):
        yield f"{row.rollout} does not want {row.model}/{row.version} for {row.slot}"
    if device is None or device.status is not DeviceStatus.ACTIVE:
        yield f"{row.device} is not active"
        return
    if not matches(parse(rollout.selector), attributes(device)):
        yield f"{row.device} does not match {rollout.selector}"
    if release is not None and objections(release, device):
        yield f"{row.device} can't run {release.reference}"
    member = known.after.get((rollout.id, row.device))
    if member is None or member.stage == CONTROL or member.reverted:
        yield f"{row.device} is assigned and not released by {rollout.id}"
    yield from _newer(row, rollout, device, known)


def _newer(row: Wanted, rollout: Rollout, device: Device, known: _Known) -> Iterator[str]:
    """An open rollout that is newer has the place, or will."""
    for one in known.facts.rollouts:
        if one.state not in OPEN or age(one) <= age(rollout) or one.model != row.model:
            continue
        better = known.facts.releases.get((one.model, one.version))
        if one.slot != row.slot or better is None or not better.published:
            continue
        meant = matches(parse(one.selector), attributes(device)) and not objections(better, device)
        holds = known.rows.get(place(row)) == one.id
        if meant and (rollout.state in OPEN or holds):
            yield f"{row.device} belongs to {one.id}, which is newer than {rollout.id}"


def _restored(known: _Known) -> Iterator[str]:
    slots = slots_by_place(known.facts.slots)
    for row in known.plan.restore:
        release = known.facts.releases.get((row.model, row.version))
        member = known.after.get((row.rollout, row.device))
        ran = member is not None and member.reverted and member.before == row.version
        if not ran and not proven(slots.get(place(row), ()), release):
            yield f"{row.device} has not proven that it runs {row.model}/{row.version}"
        if release is None or not release.published:
            yield f"{row.model}/{row.version} is not published"


def _members(known: _Known) -> Iterator[str]:
    """The control group is left alone, and nobody moves from one stage to another."""
    for member in known.plan.members:
        before = known.members.get((member.rollout, member.device))
        if before is None or before.stage == member.stage:
            continue
        records = known.stages.get(member.rollout, ())
        passed = all(one.state is StageState.PASSED for one in records[: member.stage])
        if before.stage != CONTROL:
            yield f"{member.device} moves from stage {before.stage} to {member.stage}"
        elif member.stage < len(records) - 1 or not passed:
            yield f"{member.device} is in the control group of {member.rollout}"


def _releases(known: _Known) -> Iterator[str]:
    """Who runs releases, into an open stage, within its budget, size and pace."""
    new: dict[str, list[Member]] = {}
    for member in known.plan.members:
        before = known.members.get((member.rollout, member.device))
        again = before is not None and before.released_at != member.released_at
        if member.stage != CONTROL and (before is None or before.stage == CONTROL or again):
            new.setdefault(member.rollout, []).append(member)
    for rollout_id, released in new.items():
        rollout = known.rollouts.get(rollout_id)
        if rollout is None or rollout.state is State.SUCCEEDED:
            continue  # a standing order
        yield from _released(rollout, released, known)


def _released(rollout: Rollout, released: list[Member], known: _Known) -> Iterator[str]:
    if rollout.state is not State.RUNNING:
        yield f"{rollout.id} is {rollout.state} and releases {len(released)} devices"
    records = known.stages.get(rollout.id, ())
    again = {one.device for one in released if (rollout.id, one.device) in known.members}
    for number, device in {(one.stage, one.device) for one in released}:
        state = records[number].state if number < len(records) else StageState.PENDING
        back = state is StageState.PASSED and device in again
        if state is not StageState.OPEN and not back:
            yield f"{rollout.id} releases {device} into stage {number}, which is not open"
    progress = next(one for one in known.plan.progress if one.rollout.id == rollout.id)
    for record in records:
        own = [one for one in progress.standings if one.stage == record.number]
        if record.state in JUDGED and broken_budget(rollout.policy.budget, tally(own), record):
            yield f"{rollout.id} releases devices though stage {record.number} broke its budget"
    pace = rollout.policy.pace
    limit = rate(pace, len(progress.standings))
    span = max(MINUTE, MINUTE / limit) if limit else MINUTE
    mine = [one for (of, _), one in known.after.items() if of == rollout.id]
    recent = sum(one.released_at > known.now - span for one in mine if one.stage != CONTROL)
    if recent > max(1.0, limit * span / MINUTE):
        yield f"{rollout.id} releases {recent} devices in {span:g} s"


def _states(known: _Known) -> Iterator[str]:
    reachable = _reachable()
    for rollout in known.plan.rollouts:
        before = known.rollouts.get(rollout.id)
        if before is None or (before.state, rollout.state) not in _STEPS:
            yield f"{rollout.id} can't become {rollout.state}"
        records = known.stages.get(rollout.id, ())
        passed = records and all(one.state is StageState.PASSED for one in records)
        if rollout.state is State.SUCCEEDED and not passed:
            yield f"{rollout.id} succeeded with stages that have not passed"
    stages = {(one.rollout, one.number): one for one in known.facts.stages}
    for record in known.plan.stages:
        old = stages.get((record.rollout, record.number))
        start = StageState.PENDING if old is None else old.state
        if record.state not in reachable[start]:
            yield f"{record.rollout}: stage {record.number} can't become {record.state}"
        if old is not None and record.size < old.size:
            yield f"{record.rollout}: stage {record.number} shrinks"


_STEPS = {(state, after) for (state, _), after in TRANSITIONS.items()}


def _reachable() -> dict[StageState, set[StageState]]:
    """A plan may take several steps of a stage at once."""
    found = {state: {state} for state in StageState}
    for _ in StageState:
        for (state, _), after in STAGE_TRANSITIONS.items():
            for start in StageState:
                if state in found[start]:
                    found[start].add(after)
    return found
