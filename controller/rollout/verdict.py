"""What is to become of an open stage: counts, budgets, proof and gates in, one ruling out.

Rules:

1. A budget is broken when the share of lost devices is above it with confidence, over all devices
   that could have shown by now what becomes of them: a failure is reported sooner than a success, so
   the first report of twenty devices being a failure says little.
2. What a person has accepted by resuming counts no more, on neither side.
3. A stage is settled when nobody installs or soaks any more. Devices that are away hold nobody up;
   those that are deferred do while the proof needs them.
4. A settled stage that can't prove yet that the version is good grows, if there are devices left up
   to the size of the next stage. If there are none it passes with what it could show, unless more
   was lost than the budget allows.
5. Gates are judged when all else is well. One that can't tell is waited for once more as long as the
   soak, and then says so.
6. Proof is of the version, so the devices of all stages so far count.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.rollout.account import Tally
from controller.rollout.gate.bounds import lower_bound, upper_bound
from controller.rollout.gate.evidence import Evidence
from controller.rollout.gate.judgement import GateResult, GateVerdict, judge
from controller.rollout.policy import Budget, Policy, Proof, Stage
from controller.rollout.rollout import StageRecord

GROWTH: Final = 1.5
LOOK_SECONDS: Final = 60.0
"""Gates that wait for evidence are asked again after so long."""


class Ruling(StrEnum):
    """What follows."""

    WAIT = "wait"
    GROW = "grow"
    GO_ON = "go-on"
    BREACH = "breach"


@dataclass(frozen=True, slots=True)
class Case:
    """An open stage, as it stands.

    Attributes:
        tally: of its own devices.
        so_far: of its own and those of the stages before it.
        accepted: failed and unreachable devices that were accepted, over all of them.
        due: how many devices it is still to release at its present size.
        most: how far it may grow.
        settled_at: when the last of its devices had soaked; Unix seconds.
        evidence: what its gates judge; None if nobody has gathered it.
    """

    policy: Policy
    stage: Stage
    record: StageRecord
    tally: Tally
    so_far: Tally
    accepted: tuple[int, int]
    due: int
    most: int
    settled_at: float
    evidence: Evidence | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ruling with its reason.

    Attributes:
        size: what the stage grows to.
        gates: what the gates said, if they were asked.
        broken: names of those that are breached.
        wants_evidence: only the gates are left, and there is nothing for them to judge.
        again_at: when time alone may change the ruling, beside what devices' standings say.
    """

    ruling: Ruling
    reason: str
    size: int = 0
    gates: tuple[GateResult, ...] = ()
    broken: tuple[str, ...] = ()
    wants_evidence: bool = False
    again_at: float = math.inf


def verdict(case: Case, now: float) -> Verdict:
    """What is to become of the stage at ``now`` (Unix seconds)."""
    broken = broken_budget(case.policy.budget, case.tally, case.record)
    if broken:
        return Verdict(Ruling.BREACH, broken)
    missing = unproven(case.policy.proof, case.so_far, case.accepted)
    waits = _waits(case, missing, now)
    if waits:
        patience = case.record.opened_at + case.stage.deadline_seconds
        holds = missing and case.tally.deferred and now < patience
        again_at = patience if holds else math.inf
        return Verdict(Ruling.WAIT, waits, again_at=again_at)
    if missing and case.record.size < case.most:
        return _grown(case, missing)
    if not case.tally.decided and case.tally.size:
        return Verdict(Ruling.WAIT, "no device is there to show anything")
    if missing or case.policy.proof.failing_below >= 1:
        lost = lost_too_many(case.policy.budget, case.so_far, case.accepted)
        if lost:
            return Verdict(Ruling.BREACH, lost)
    return _gated(case, missing, now)


def _waits(case: Case, missing: str, now: float) -> str:
    """Why nothing can be said yet (rule 3); empty if something can."""
    if case.due:
        return f"{case.due} to be released"
    if not case.so_far.size:
        return f"no device matches {case.stage.selector or 'it'} yet"
    if case.tally.waiting or case.tally.soaking:
        return _unsettled(case.tally, case.settled_at, now)
    patient = now < case.record.opened_at + case.stage.deadline_seconds
    if missing and case.tally.deferred and patient:
        return f"{missing}; {case.tally.deferred} deferred"
    return ""


def broken_budget(budget: Budget, tally: Tally, record: StageRecord) -> str:
    """Which budget the stage has broken (rule 1), in words; empty if none."""
    accepted = accepted_of(record, tally)
    told = tally.told - sum(accepted)
    for what, lost, most in (
        ("failed", tally.failed - accepted[0], budget.failed),
        ("are unreachable", tally.unreachable - accepted[1], budget.unreachable),
    ):
        if lost > 0 and lower_bound(lost, told, budget.confidence) > most:
            return f"{lost} of {told} {what}: above {percent(most)} with {percent(budget.confidence)} confidence"
    return ""


def accepted_of(record: StageRecord, tally: Tally) -> tuple[int, int]:
    """How many of the stage's failed and unreachable devices a resume has accepted.

    Never more than there are now: one that has come back is there like any other.
    """
    failed = min(record.accepted_failed, tally.failed)
    return failed, min(record.accepted_unreachable, tally.unreachable)


def lost_too_many(budget: Budget, so_far: Tally, accepted: tuple[int, int]) -> str:
    """Whether more was lost than the budget allows, when no more can be learnt; in words."""
    told = max(1, so_far.told - sum(accepted))
    for what, lost, most in (
        ("failed", so_far.failed - accepted[0], budget.failed),
        ("are unreachable", so_far.unreachable - accepted[1], budget.unreachable),
    ):
        if lost / told > most:
            return f"{lost} of {told} {what}, {percent(most)} may; no more devices to learn from"
    return ""


def unproven(proof: Proof, so_far: Tally, accepted: tuple[int, int]) -> str:
    """What the devices do not show yet; empty if they show all that is asked.

    Who is unreachable shows nothing of the version, neither good nor bad.
    """
    failed = so_far.failed - accepted[0]
    decided = so_far.decided - so_far.unreachable - accepted[0]
    if decided < proof.minimum_devices:
        return f"{decided} of {proof.minimum_devices} devices are decided"
    if proof.failing_below >= 1:
        return ""
    upper = upper_bound(failed, decided, proof.confidence)
    if upper < proof.failing_below:
        return ""
    return (
        f"{failed} of {decided} failed: up to {percent(upper)} may fail, "
        f"and below {percent(proof.failing_below)} is to be shown"
    )


def _unsettled(tally: Tally, settled_at: float, now: float) -> str:
    parts = [f"{tally.waiting} install"] if tally.waiting else []
    if tally.soaking:
        parts.append(f"{tally.soaking} soak, {span(settled_at - now)} left")
    return ", ".join(parts)


def _grown(case: Case, missing: str) -> Verdict:
    size = min(case.most, max(case.record.size + 1, int(case.record.size * GROWTH)))
    return Verdict(Ruling.GROW, f"{missing}: grows from {case.record.size} to {size}", size)


def _gated(case: Case, missing: str, now: float) -> Verdict:
    gates = (*case.policy.gates, *case.stage.gates)
    expressions = (*case.policy.expressions, *case.stage.expressions)
    shown = _shown(case, missing)
    asked = case.policy.proof.minimum_inferences
    if not (gates or expressions or asked):
        return Verdict(Ruling.GO_ON, shown)
    if case.evidence is None:
        return Verdict(Ruling.WAIT, "the gates are to be judged", wants_evidence=True)
    results = judge(gates, expressions, case.evidence, _seed(case))
    broken = [
        one
        for one in results
        if one.verdict is GateVerdict.BREACHED and one.name not in case.record.accepted_gates
    ]
    if broken:
        return Verdict(
            Ruling.BREACH,
            "; ".join(one.reason for one in broken),
            gates=results,
            broken=tuple(one.name for one in broken),
        )
    answered = sum(one.inferences for one in case.evidence.stage)
    if answered < asked:
        seen = f"{answered:,} of {asked:,} inferences"
        return Verdict(Ruling.WAIT, seen, gates=results, again_at=now + LOOK_SECONDS)
    open_ = [one for one in results if one.verdict is GateVerdict.UNDECIDED]
    if open_ and not case.evidence.control:
        shown += "; nobody is left to compare with"
        only_compare = {gate.metric.value for gate in gates if gate.limit is None}
        open_ = [one for one in open_ if one.name not in only_compare]
    patience = case.settled_at + case.stage.soak_seconds
    if open_ and now < patience:
        told = "; ".join(one.reason for one in open_)
        return Verdict(Ruling.WAIT, told, gates=results, again_at=min(patience, now + LOOK_SECONDS))
    doubts = [f"{one.reason} (not decided)" for one in open_]
    return Verdict(Ruling.GO_ON, "; ".join([shown, *doubts]), gates=results)


def _shown(case: Case, missing: str) -> str:
    so_far = case.so_far
    lost = so_far.failed + so_far.unreachable
    text = f"{so_far.ok} of {so_far.ok + lost} run it"
    return f"{text}; {missing}, and there are no more devices for it" if missing else text


def _seed(case: Case) -> int:
    return case.record.number * 1_000_003 + case.record.size


def percent(share: float) -> str:
    """A share, for people.

    >>> percent(0.02), percent(0.0734)
    ('2 %', '7.3 %')
    """
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def span(seconds: float) -> str:
    """A time that is left, for people.

    >>> span(90), span(7300)
    ('1 min 30 s', '2 h 1 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{whole // 60} min"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} days {whole % 86_400 // 3600} h"
