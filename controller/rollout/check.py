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
from controller.rollout.account import tallied
from controller.rollout.compatibility import objections
from controller.rollout.draft import Plan
from controller.rollout.facts import Known, age, is_committed, place
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
class _Case:
    """The facts, and what the plan makes of them.

    Attributes:
        members: those that the plan changes, by rollout and device.
        stages: as they are after the plan.
    """

    known: Known
    plan: Plan
    members: Mapping[tuple[str, str], Member]
    stages: Mapping[str, tuple[StageRecord, ...]]
    now: float

    def before(self, rollout: str, device: str) -> Member | None:
        """The membership as the plan found it."""
        return self.known.members_of(rollout).get(device)

    def after(self, rollout: str, device: str) -> Member | None:
        """The membership as the plan leaves it."""
        return self.members.get((rollout, device)) or self.before(rollout, device)


def violations(known: Known, plan: Plan, now: float) -> tuple[str, ...]:
    """Every rule that the plan breaks, in words; empty if it may be carried out."""
    if plan.empty:
        return ()
    case = _Case(
        known,
        plan,
        {(one.rollout, one.device): one for one in plan.members},
        {one.rollout.id: one.stages for one in plan.progress},
        now,
    )
    return (
        *_one_row_per_place(case),
        *(line for row in plan.assign for line in _assigned(row, case)),
        *_restored(case),
        *_members(case),
        *_releases(case),
        *_states(case),
        *_forgotten(case),
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


def _one_row_per_place(case: _Case) -> Iterator[str]:
    plan = case.plan
    touched = Counter(place(row) for row in (*plan.assign, *plan.restore, *plan.remove))
    yield from (
        f"{where} is changed {count} times" for where, count in touched.items() if count > 1
    )
    for row in (*plan.restore, *plan.remove):
        if case.known.row(place(row)) is None:
            yield f"{place(row)} has no row to restore or remove"


def _assigned(row: Wanted, case: _Case) -> Iterator[str]:
    known = case.known
    release = known.releases.get((row.model, row.version))
    rollout, device = known.rollouts.get(row.rollout), known.device(row.device)
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
    member = case.after(rollout.id, row.device)
    if member is None or member.stage == CONTROL or member.reverted:
        yield f"{row.device} is assigned and not released by {rollout.id}"
    yield from _newer(row, rollout, device, known)


def _newer(row: Wanted, rollout: Rollout, device: Device, known: Known) -> Iterator[str]:
    """An open rollout that is newer has the place, or will."""
    present = known.row(place(row))
    for one in known.rollouts.values():
        if one.state not in OPEN or age(one) <= age(rollout) or one.model != row.model:
            continue
        better = known.release(one)
        if one.slot != row.slot or better is None or not better.published:
            continue
        meant = matches(parse(one.selector), attributes(device)) and not objections(better, device)
        holds = present is not None and present.rollout == one.id
        if meant and (rollout.state in OPEN or holds):
            yield f"{row.device} belongs to {one.id}, which is newer than {rollout.id}"


def _restored(case: _Case) -> Iterator[str]:
    for row in case.plan.restore:
        release = case.known.releases.get((row.model, row.version))
        member = case.after(row.rollout, row.device)
        ran = member is not None and member.reverted and member.before == row.version
        said = case.known.said(place(row))
        if not (ran or (release and any(is_committed(one, release) for one in said))):
            yield f"{row.device} has not proven that it runs {row.model}/{row.version}"
        if release is None or not release.published:
            yield f"{row.model}/{row.version} is not published"


def _members(case: _Case) -> Iterator[str]:
    """The control group is left alone, and nobody moves from one stage to another."""
    for member in case.plan.members:
        before = case.before(member.rollout, member.device)
        if before is None or before.stage == member.stage:
            continue
        records = case.stages.get(member.rollout, ())
        passed = all(one.state is StageState.PASSED for one in records[: member.stage])
        if before.stage != CONTROL:
            yield f"{member.device} moves from stage {before.stage} to {member.stage}"
        elif member.stage < len(records) - 1 or not passed:
            yield f"{member.device} is in the control group of {member.rollout}"


def _releases(case: _Case) -> Iterator[str]:
    """Who runs releases, into an open stage, within its budget, size and pace."""
    new: dict[str, list[Member]] = {}
    for member in case.plan.members:
        before = case.before(member.rollout, member.device)
        again = before is not None and before.released_at != member.released_at
        if member.stage != CONTROL and (before is None or before.stage == CONTROL or again):
            new.setdefault(member.rollout, []).append(member)
    for rollout_id, released in new.items():
        rollout = case.known.rollouts.get(rollout_id)
        if rollout is None or rollout.state is State.SUCCEEDED:
            continue  # a standing order
        yield from _released(rollout, released, case)


def _released(rollout: Rollout, released: list[Member], case: _Case) -> Iterator[str]:
    if rollout.state is not State.RUNNING:
        yield f"{rollout.id} is {rollout.state} and releases {len(released)} devices"
    records = case.stages.get(rollout.id, ())
    again = {one.device for one in released if case.before(rollout.id, one.device)}
    for number, device in {(one.stage, one.device) for one in released}:
        state = records[number].state if number < len(records) else StageState.PENDING
        back = state is StageState.PASSED and device in again
        if state is not StageState.OPEN and not back:
            yield f"{rollout.id} releases {device} into stage {number}, which is not open"
    progress = next(one for one in case.plan.progress if one.rollout.id == rollout.id)
    for record in records:
        own = tallied(progress.census, first=record.number, last=record.number)
        if record.state in JUDGED and broken_budget(rollout.policy.budget, own, record):
            yield f"{rollout.id} releases devices though stage {record.number} broke its budget"
    if rollout.policy.pace.per_minute:
        yield from _paced(rollout, progress.census.size, case)


def _paced(rollout: Rollout, decided: int, case: _Case) -> Iterator[str]:
    limit = rate(rollout.policy.pace, decided)
    span = max(MINUTE, MINUTE / limit)
    changed = {one.device: one for one in case.plan.members if one.rollout == rollout.id}
    after = {**case.known.members_of(rollout.id), **changed}.values()
    recent = sum(one.released_at > case.now - span for one in after if one.stage != CONTROL)
    if recent > max(1.0, limit * span / MINUTE):
        yield f"{rollout.id} releases {recent} devices in {span:g} s"


def _states(case: _Case) -> Iterator[str]:
    for rollout in case.plan.rollouts:
        before = case.known.rollouts.get(rollout.id)
        if before is None or (before.state, rollout.state) not in _STEPS:
            yield f"{rollout.id} can't become {rollout.state}"
        records = case.stages.get(rollout.id, ())
        passed = records and all(one.state is StageState.PASSED for one in records)
        if rollout.state is State.SUCCEEDED and not passed:
            yield f"{rollout.id} succeeded with stages that have not passed"
    for record in case.plan.stages:
        known = case.known.records.get(record.rollout, ())
        old = known[record.number] if record.number < len(known) else None
        start = StageState.PENDING if old is None else old.state
        if record.state not in _REACHABLE[start]:
            yield f"{record.rollout}: stage {record.number} can't become {record.state}"
        if old is not None and record.size < old.size:
            yield f"{record.rollout}: stage {record.number} shrinks"


def _forgotten(case: _Case) -> Iterator[str]:
    rows = (row.rollout for one in case.known.by_device.values() for row in one.rows)
    kept = {*rows, *(one.rollout for one in case.plan.members)} if case.plan.forget else set()
    for rollout_id in case.plan.forget:
        rollout = case.known.rollouts.get(rollout_id)
        if rollout is None or rollout.state is not State.SUCCEEDED or rollout_id in kept:
            yield f"the members of {rollout_id} are needed"


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


_REACHABLE = _reachable()
