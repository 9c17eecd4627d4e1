"""What must be true of every plan and of every directive, whoever made them.

The planner is held to this before anything is recorded: a plan that breaks a rule is a bug, and is
not carried out.
"""

from collections import Counter
from collections.abc import Iterator

from controller.fleet.attributes import attributes
from controller.fleet.device import DeviceStatus
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.rollout.account import Outcome
from controller.rollout.compatibility import objections
from controller.rollout.facts import Facts, age, place, proven, slots_by_place
from controller.rollout.plan import Plan
from controller.rollout.rollout import ASSIGNING, FINAL, State, Wanted
from protos.documents import Directive


class InvalidPlan(Exception):
    """A plan or directive breaks a rule. A bug; nothing of it was recorded."""


def violations(facts: Facts, plan: Plan) -> tuple[str, ...]:
    """Every rule that the plan breaks, in words; empty if it may be carried out."""
    return (
        *_one_row_per_place(facts, plan),
        *(line for row in plan.assign for line in _assigned(row, facts)),
        *_restored(facts, plan),
        *_ended(facts, plan),
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


def _assigned(row: Wanted, facts: Facts) -> Iterator[str]:
    release = facts.releases.get((row.model, row.version))
    rollout = next((one for one in facts.rollouts if one.id == row.rollout), None)
    device = next((one for one in facts.devices if one.id == row.device), None)
    if release is None or not release.published:
        yield f"{row.model}/{row.version} is not published"
    if rollout is None or rollout.state not in ASSIGNING:
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
    newer = [
        one.id
        for one in facts.rollouts
        if age(one) > age(rollout)
        and one.state in ASSIGNING
        and (one.model, one.slot) == (row.model, row.slot)
        and (better := facts.releases.get((one.model, one.version))) is not None
        and better.published
        and matches(parse(one.selector), attributes(device))
        and not objections(better, device)
    ]
    if newer:
        yield f"{row.device} belongs to {newer[0]}, which is newer than {rollout.id}"


def _restored(facts: Facts, plan: Plan) -> Iterator[str]:
    slots = slots_by_place(facts.slots)
    for row in plan.restore:
        release = facts.releases.get((row.model, row.version))
        if not proven(slots.get(place(row), ()), release):
            yield f"{row.device} has not proven that it runs {row.model}/{row.version}"


def _ended(facts: Facts, plan: Plan) -> Iterator[str]:
    states = {one.id: one.state for one in facts.rollouts}
    accounts = {one.rollout.id: one for one in plan.progress}
    for change in plan.changes:
        if states.get(change.rollout) is not State.RUNNING or change.state not in FINAL:
            yield f"{change.rollout} can't become {change.state}"
        if change.state is State.SUCCEEDED:
            standings = accounts[change.rollout].standings
            if not standings or any(one.outcome is not Outcome.OK for one in standings):
                yield f"{change.rollout} succeeded without proof of every device"
