"""One open rollout's next step: which stage is at work, whom it releases, whether it may go on.

Rules:

1. The control group is drawn when the rollout begins, from the end of the order, and is released only
   when every stage has passed: it is the last stage, held to the same.
2. A stage begins when the one before it has passed, its time has come and who must approve has.
3. Who is released stays released. A stage that grows takes the next in the order; who was put back,
   or away from the rollout for a while, comes before them, at the same pace.
4. A breach of any stage, late ones too, does what the policy of that stage says.
5. A paused rollout releases nobody, and goes on counting.
6. Taking the step again at the same time changes nothing.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from controller.fleet.attributes import attributes
from controller.fleet.device import Device
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.rollout.account import Tally, tally
from controller.rollout.cohort import control_group, order
from controller.rollout.gate.evidence import Evidence
from controller.rollout.gate.judgement import GateResult
from controller.rollout.gate.look import nearly_at
from controller.rollout.policy import Breach, Policy, Stage
from controller.rollout.release import Traffic, admitted
from controller.rollout.rollout import (
    CONTROL,
    Event,
    Member,
    Rollout,
    StageEvent,
    StageRecord,
    StageState,
    State,
    stage_step,
    step,
)
from controller.rollout.standing import Outcome, Standing
from controller.rollout.verdict import Case, Ruling, Verdict, accepted_of, broken_budget, verdict


@dataclass(frozen=True, slots=True)
class View:
    """What a step is made from.

    Attributes:
        owned: devices whose place belongs to the rollout, by id.
        members: of these, those that it has released or holds back, by device.
        records: of every stage, by number; empty before the first step.
        standings: of the released members that have not lapsed, by device.
        lapsed: members that were put back, or whose place was not the rollout's for a while: they
            are to be released again.
        released_at: of everybody that it ever released, in Unix seconds.
    """

    rollout: Rollout
    owned: Mapping[str, Device]
    members: Mapping[str, Member]
    records: tuple[StageRecord, ...]
    standings: Mapping[str, Standing]
    evidence: Evidence | None
    now: float
    lapsed: frozenset[str] = frozenset()
    released_at: tuple[float, ...] = ()

    @property
    def policy(self) -> Policy:
        """What the rollout is held to."""
        return self.rollout.policy


@dataclass(slots=True)
class Step:
    """What follows.

    Attributes:
        rollout: as it is then.
        records: of every stage, as they are then.
        drawn: devices for the control group.
        released: devices by the number of the stage that releases them.
        revert: numbers of the stages whose devices are put back.
        lines: why, in sentences.
        wants_evidence: only gates are left to judge, and there is nothing to judge them by.
        order: in which the owned devices are drawn; empty until it was asked for.
        again_at: when time alone may change the step, beside what devices' standings say.
    """

    rollout: Rollout
    records: list[StageRecord] = field(default_factory=list)
    drawn: tuple[str, ...] = ()
    released: dict[str, int] = field(default_factory=dict)
    revert: frozenset[int] = frozenset()
    lines: list[str] = field(default_factory=list)
    gates: tuple[GateResult, ...] = ()
    wants_evidence: bool = False
    order: tuple[str, ...] = ()
    again_at: float = math.inf


def stages_of(policy: Policy, *, control: bool) -> tuple[Stage, ...]:
    """The policy's stages, and the control group's at the end if there is one."""
    if not control:
        return policy.stages
    last = policy.stages[-1]
    held = last.model_copy(update={"name": CONTROL_STAGE, "approval": False, "not_before": 0.0})
    return (*policy.stages, held)


CONTROL_STAGE = "control group"


def take_step(view: View) -> Step:
    """What is to be done now, and why. The rollout is open."""
    taken = Step(view.rollout, list(view.records))
    if view.rollout.state is State.PAUSED:
        return taken
    _begin(view, taken)
    if not taken.records:
        return taken
    for number in range(len(taken.records)):
        if not _visit(view, taken, number):
            return taken
    taken.rollout = _moved(taken.rollout, Event.PASSED, "every stage has passed", view.now)
    return taken


def _begin(view: View, taken: Step) -> None:
    """Draws the control group and lays the stages out, once there are devices."""
    if taken.records or not view.owned:
        return
    group = control_group(_order(view, taken), view.policy.control_percent)
    taken.drawn = tuple(device for device in group if device not in view.members)
    stages = stages_of(view.policy, control=bool(taken.drawn))
    taken.records = [StageRecord(view.rollout.id, number) for number in range(len(stages))]


def _visit(view: View, taken: Step, number: int) -> bool:
    """Takes one stage as far as it goes; returns whether the next one may begin."""
    stage, record = _stage(view, taken, number), taken.records[number]
    if record.state is StageState.PASSED:
        return not _broken(view, taken, number)
    if record.state is StageState.PENDING:
        record = _put(taken, replace(record, state=stage_step(record.state, StageEvent.TURN)))
    if record.state is StageState.HELD:
        waits = _waits(stage, record, view.now)
        if waits:
            taken.lines.append(f"{stage.name}: {waits}")
            if view.now < stage.not_before:
                taken.again_at = stage.not_before
            return False
        size = _size(view, taken, stage)
        record = _put(
            taken,
            replace(
                record,
                state=stage_step(record.state, StageEvent.BEGIN),
                opened_at=view.now,
                size=size,
            ),
        )
        taken.lines.append(f"{stage.name}: begins, for {_count(size)} in all")
    if record.state is not StageState.OPEN:
        taken.lines.append(f"{stage.name}: {record.state}")
        return False
    return _judge(view, taken, number, stage)


def _judge(view: View, taken: Step, number: int, stage: Stage) -> bool:
    due = _due(view, taken, number, stage)
    found = verdict(_case(view, taken, number, stage, len(due)), view.now)
    taken.wants_evidence |= found.wants_evidence
    taken.again_at = found.again_at
    taken.gates = found.gates or taken.gates
    record = taken.records[number]
    match found.ruling:
        case Ruling.BREACH:
            _breach(view, taken, number, found.reason, found.broken)
            return False
        case Ruling.PAUSE:
            _breach(view, taken, number, found.reason, found.broken, Breach.PAUSE)
            return False
        case Ruling.GO_ON:
            state = stage_step(record.state, StageEvent.PASSED)
            reason = "\n".join((found.reason, *found.compared))
            _put(taken, replace(record, state=state, passed_at=view.now, reason=reason))
            taken.lines.append(f"{stage.name}: passed: {found.reason}")
            taken.lines += [f"{stage.name}: {one}" for one in found.compared]
            return True
        case Ruling.GROW:
            _put(taken, replace(record, size=found.size))
            due = _due(view, taken, number, stage)
    _release(view, taken, number, due, found)
    return False


def _release(view: View, taken: Step, number: int, due: Sequence[str], found: Verdict) -> None:
    name, pace = _stage(view, taken, number).name, view.policy.pace
    sites = {
        device: site
        for device in due
        if (site := attributes(view.owned[device]).get(pace.site_label, ""))
    }
    admission = admitted(due, sites, pace, _traffic(view), view.now)
    taken.released.update(dict.fromkeys(admission.devices, number))
    left = len(due) - len(admission.devices)
    if admission.devices:
        taken.lines.append(f"{name}: releases {_count(len(admission.devices))}")
    if left:
        taken.again_at = min(taken.again_at, admission.again_at)
        taken.lines.append(f"{name}: {left} more wait: {', '.join(admission.held_by)}")
    if found.ruling is Ruling.GROW or not due:
        taken.lines.append(f"{name}: {found.reason}")


def _traffic(view: View) -> Traffic:
    label = view.policy.pace.site_label
    busy: Counter[str] = Counter()
    for device, standing in view.standings.items():
        if standing.outcome is Outcome.WAITING and device in view.owned:
            busy[attributes(view.owned[device]).get(label, "")] += 1
    succeeded = sum(one.outcome is Outcome.OK for one in view.standings.values())
    return Traffic(view.released_at, succeeded, busy)


def _case(view: View, taken: Step, number: int, stage: Stage, due: int) -> Case:
    own = _tally(view, number)
    so_far = [one for one in view.standings.values() if one.stage <= number]
    proven = [
        one.proven_at + stage.soak_seconds
        for one in view.members.values()
        if one.stage == number and one.proven_at and one.device not in view.lapsed
    ]
    aside = [
        view.members[device].released_at
        for device, one in view.standings.items()
        if one.stage == number and one.outcome in {Outcome.DEFERRED, Outcome.AWAY}
    ]
    accepted = [accepted_of(one, _tally(view, one.number)) for one in taken.records[: number + 1]]
    return Case(
        policy=view.policy,
        stage=stage,
        record=taken.records[number],
        tally=own,
        so_far=tally(so_far),
        accepted=(sum(one for one, _ in accepted), sum(one for _, one in accepted)),
        due=due,
        most=_most(view, taken, number),
        settled_at=max(proven, default=taken.records[number].opened_at),
        nearly_at=nearly_at(proven, own),
        held_until=max(aside, default=0.0) + stage.deadline_seconds,
        others=len(view.owned) - sum(one.stage != CONTROL for one in view.members.values()),
        evidence=view.evidence,
    )


def _tally(view: View, number: int) -> Tally:
    return tally(one for one in view.standings.values() if one.stage == number)


def _count(devices: int) -> str:
    return f"{devices} device" if devices == 1 else f"{devices} devices"


def _waits(stage: Stage, record: StageRecord, now: float) -> str:
    if now < stage.not_before:
        begins = datetime.fromtimestamp(stage.not_before, UTC)
        return f"begins at {begins:%Y-%m-%d %H:%M} UTC"
    if stage.approval and not record.approved_by:
        return "waits for approval"
    return ""


def _broken(view: View, taken: Step, number: int) -> bool:
    """Late failures of a stage that has passed."""
    reason = broken_budget(view.policy.budget, _tally(view, number), taken.records[number])
    if reason:
        _breach(view, taken, number, f"{reason}, after it had passed")
    return bool(reason)


def _breach(
    view: View,
    taken: Step,
    number: int,
    reason: str,
    gates: tuple[str, ...] = (),
    how: Breach | None = None,
) -> None:
    """The stage does what its policy says, or ``how``."""
    stage, record = _stage(view, taken, number), taken.records[number]
    told, how = f"{stage.name}: {reason}", how or stage.on_breach
    event = StageEvent.BREACH
    match how:
        case Breach.PAUSE:
            taken.rollout = _moved(taken.rollout, Event.BREACH, told, view.now)
        case Breach.ROLLBACK_STAGE:
            event = StageEvent.ROLLBACK
            taken.rollout = _moved(taken.rollout, Event.BREACH, told, view.now)
            taken.revert = frozenset({number})
        case Breach.ROLLBACK_ALL:
            taken.rollout = _moved(taken.rollout, Event.REVERT, told, view.now)
            taken.revert = frozenset(range(len(taken.records)))
    taken.released.clear()
    state = stage_step(record.state, event)
    _put(taken, replace(record, state=state, reason=reason, broken_gates=gates))
    taken.lines.append(f"{told}: {how.value}")


def _moved(rollout: Rollout, event: Event, reason: str, now: float) -> Rollout:
    state = step(rollout.state, event)
    ended_at = now if state is State.SUCCEEDED else rollout.ended_at
    return replace(rollout, state=state, reason=reason, ended_at=ended_at)


def _put(taken: Step, record: StageRecord) -> StageRecord:
    taken.records[record.number] = record
    return record


def _stage(view: View, taken: Step, number: int) -> Stage:
    return stages_of(view.policy, control=len(taken.records) > len(view.policy.stages))[number]


def _control(view: View, taken: Step) -> set[str]:
    return {*taken.drawn, *(one.device for one in view.members.values() if one.stage == CONTROL)}


def _size(view: View, taken: Step, stage: Stage) -> int:
    """How many devices have been released when the stage ends, control group left out."""
    total, control = len(view.owned), _control(view, taken)
    free = total - len(control)
    if stage.name == CONTROL_STAGE:
        return total
    if stage.percent is not None:
        return max(1, min(free, math.ceil(total * stage.percent / 100)))
    if stage.count is not None:
        return max(1, min(free, stage.count))
    return len(_meant(view, stage, set(view.owned) - control) | _released(view))


def _most(view: View, taken: Step, number: int) -> int:
    """How far a stage may grow: to the size of the next one; where a selector rules, not at all."""
    following = number + 1
    stage = _stage(view, taken, number)
    if stage.selector or following >= len(view.policy.stages):
        return taken.records[number].size
    return max(taken.records[number].size, _size(view, taken, _stage(view, taken, following)))


def _due(view: View, taken: Step, number: int, stage: Stage) -> tuple[str, ...]:
    """Who is to be released for the stage to have its size, in order."""
    released = _released(view)
    need = taken.records[number].size - len(released)
    last = number == len(taken.records) - 1 or (
        number == len(view.policy.stages) - 1 and stage.percent is not None
    )
    if need <= 0 and not last:
        return ()
    control = set() if stage.name == CONTROL_STAGE else _control(view, taken)
    later = {one for one in view.lapsed if view.members[one].stage > number}
    pool = set(view.owned) - released - control - later
    if stage.selector:
        pool = _meant(view, stage, pool)
    if not pool:
        return ()
    drawn = [one for one in _order(view, taken) if one in pool]
    drawn.sort(key=lambda one: one not in view.lapsed)
    return tuple(drawn if last or stage.selector else drawn[:need])


def _released(view: View) -> set[str]:
    members = view.members.values()
    return {one.device for one in members if one.stage != CONTROL} - view.lapsed


def _meant(view: View, stage: Stage, pool: set[str]) -> set[str]:
    selector = parse(stage.selector)
    return {one for one in pool if matches(selector, attributes(view.owned[one]))}


def _order(view: View, taken: Step) -> tuple[str, ...]:
    if not taken.order:
        names = view.policy.stratify_by
        strata = {
            device: tuple(attributes(one).get(name, "") for name in names)
            for device, one in (view.owned.items() if names else ())
        }
        taken.order = order(view.rollout.id, view.owned.keys(), strata)
    return taken.order
