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
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from controller.rollout.cohort import control_group
from controller.rollout.gate.evidence import Evidence
from controller.rollout.gate.judgement import GateResult
from controller.rollout.gate.look import nearly_at
from controller.rollout.policy import Breach, Policy, Stage
from controller.rollout.release import Traffic, admitted
from controller.rollout.rollout import (
    Event,
    Rollout,
    StageEvent,
    StageRecord,
    StageState,
    State,
    stage_step,
    step,
)
from controller.rollout.roster import Roster
from controller.rollout.standing import Outcome
from controller.rollout.verdict import Case, Ruling, Verdict, accepted_of, broken_budget, verdict


@dataclass(frozen=True, slots=True)
class View:
    """What a step is made from.

    Attributes:
        records: of every stage, by number; empty before the first step.
    """

    roster: Roster
    records: tuple[StageRecord, ...]
    evidence: Evidence | None
    now: float

    @property
    def rollout(self) -> Rollout:
        """Whose step it is."""
        return self.roster.rollout

    @property
    def policy(self) -> Policy:
        """What the rollout is held to."""
        return self.roster.policy


@dataclass(frozen=True, slots=True)
class Queue:
    """Whom a stage is still to release: so many of the devices, in this order."""

    size: int = 0
    devices: Iterable[str] = ()


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
    roster = view.roster
    if taken.records or not roster.owned:
        return
    group = control_group(roster.order(), view.policy.control_percent)
    taken.drawn = tuple(device for device in group if device not in roster.members)
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
        size = _size(view, taken, number)
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
    found = verdict(_case(view, taken, number, stage, due.size), view.now)
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


def _release(view: View, taken: Step, number: int, due: Queue, found: Verdict) -> None:
    roster, pace = view.roster, view.policy.pace
    name = _stage(view, taken, number).name
    traffic = Traffic(roster.released_at, roster.census.count(Outcome.OK), roster.busy)
    admission = admitted(due.devices, roster.sites, pace, traffic, view.now)
    taken.released.update(dict.fromkeys(admission.devices, number))
    left = due.size - len(admission.devices)
    if admission.devices:
        taken.lines.append(f"{name}: releases {_count(len(admission.devices))}")
    if left:
        taken.again_at = min(taken.again_at, admission.again_at)
        taken.lines.append(f"{name}: {left} more wait: {', '.join(admission.held_by)}")
    if found.ruling is Ruling.GROW or not due.size:
        taken.lines.append(f"{name}: {found.reason}")


def _case(view: View, taken: Step, number: int, stage: Stage, due: int) -> Case:
    roster = view.roster
    proven, aside = roster.proven(number), roster.aside(number)
    accepted = [accepted_of(one, roster.tally(one.number)) for one in taken.records[: number + 1]]
    return Case(
        policy=view.policy,
        stage=stage,
        record=taken.records[number],
        tally=roster.tally(number),
        so_far=roster.so_far(number),
        accepted=(sum(one for one, _ in accepted), sum(one for _, one in accepted)),
        due=due,
        most=_most(view, taken, number),
        settled_at=proven[-1] + stage.soak_seconds if proven else taken.records[number].opened_at,
        nearly_at=nearly_at(proven, roster.tally(number)) + stage.soak_seconds,
        held_until=(aside[-1] if aside else 0.0) + stage.deadline_seconds,
        evidence=view.evidence,
    )


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
    reason = broken_budget(view.policy.budget, view.roster.tally(number), taken.records[number])
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


def _size(view: View, taken: Step, number: int) -> int:
    """How many devices have been released when the stage ends, control group left out."""
    roster, stage = view.roster, _stage(view, taken, number)
    total = len(roster.owned)
    free = total - len(roster.control) - len(taken.drawn)
    if stage.name == CONTROL_STAGE:
        return total
    if stage.percent is not None:
        return max(1, min(free, math.ceil(total * stage.percent / 100)))
    if stage.count is not None:
        return max(1, min(free, stage.count))
    return roster.released + len(roster.meant[number] & _free(view, taken))


def _most(view: View, taken: Step, number: int) -> int:
    """How far a stage may grow: to the size of the next one; where a selector rules, not at all."""
    following = number + 1
    stage = _stage(view, taken, number)
    if stage.selector or following >= len(view.policy.stages):
        return taken.records[number].size
    return max(taken.records[number].size, _size(view, taken, following))


def _due(view: View, taken: Step, number: int, stage: Stage) -> Queue:
    """Who is to be released for the stage to have its size, in order."""
    roster = view.roster
    need = taken.records[number].size - roster.released
    is_control = stage.name == CONTROL_STAGE
    last = number == len(taken.records) - 1 or (
        number == len(view.policy.stages) - 1 and stage.percent is not None
    )
    if need <= 0 and not last:
        return Queue()
    pool = _free(view, taken)
    if is_control and roster.control:
        pool = pool | roster.control
    if stage.selector:
        pool = pool & roster.meant[number]
    later = {one for one in roster.lapsed if roster.members[one].stage > number}
    if later:
        pool = pool - later
    if not pool:
        return Queue()
    size = len(pool) if last or stage.selector else min(need, len(pool))
    return Queue(size, islice(_in_order(roster, pool), size))


def _free(view: View, taken: Step) -> AbstractSet[str]:
    """Who may be released, but for the control group."""
    free = view.roster.free
    return free.difference(taken.drawn) if taken.drawn else free


def _in_order(roster: Roster, pool: AbstractSet[str]) -> Iterator[str]:
    """Those of the pool as they are drawn; who is to be released again comes first."""
    lapsed = roster.lapsed
    if lapsed:
        yield from (one for one in roster.order() if one in lapsed and one in pool)
    yield from (one for one in roster.order() if one in pool and one not in lapsed)
