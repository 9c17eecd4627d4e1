"""What is to become of an open stage: counts, budgets, proof and gates in, one ruling out.

Rules:

1. A budget is broken when the share of lost devices is above it with confidence, over all devices
   that could have shown by now what becomes of them: a failure is reported sooner than a success, so
   the first report of twenty devices being a failure says little.
2. What a person has accepted by resuming counts no more, on neither side.
3. A stage is settled when nobody installs or soaks any more, and nobody is deferred who was released
   less than the stage's deadline ago, by the controller's clock: those are of its size, whatever is
   proven without them. Devices that are away hold nobody up, unless the stage has no others.
4. A settled stage is judged by its gates for a breach before anything else follows: no device more
   gets a version that those who have it show to be bad.
5. Then it grows if it can't prove yet that the version is good, and there are devices left up to the
   size of the next stage. If there are none it passes with what it could show, unless more was lost
   than the budget allows.
6. A gate that can't tell is waited for once more as long as the soak, and then says so.
7. Every look at the gates is one more chance to take chance for a fault, so looks are few: one at
   each size, and sizes grow by half; in the wait of rule 6 the same devices only say more of
   themselves. ``gate/look.py`` says when a stage is judged that only stragglers hold up.
8. A stage none of whose devices is there to show anything waits for the first of them, for as long
   as the deadline. Then the rollout pauses, whatever the stage does on a breach: nothing is wrong
   with the version. Who resumes goes on without these devices.
9. Proof is of the version, so the devices of all stages so far count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from controller.rollout.account import Tally
from controller.rollout.gate.bounds import lower_bound, upper_bound
from controller.rollout.gate.evidence import Evidence
from controller.rollout.gate.judgement import GateResult, GateVerdict, judge
from controller.rollout.gate.look import LOOK_SECONDS, look
from controller.rollout.policy import Budget, Policy, Proof, Stage
from controller.rollout.rollout import StageRecord

GROWTH: Final = 1.5
NOBODY_THERE: Final = "nobody there"
"""Stands among a stage's broken gates when it has shown nothing; no gate can bear this name."""


class Ruling(StrEnum):
    """What follows."""

    WAIT = "wait"
    GROW = "grow"
    GO_ON = "go-on"
    BREACH = "breach"
    PAUSE = "pause"  # nothing is wrong, and a person must say how to go on


@dataclass(frozen=True, slots=True)
class Case:
    """An open stage, as it stands. Times are Unix seconds.

    Attributes:
        tally: of its own devices.
        so_far: of its own and those of the stages before it.
        accepted: failed and unreachable devices that were accepted, over all of them.
        due: how many devices it is still to release at its present size.
        most: how far it may grow.
        settled_at: when the last of its devices had soaked.
        nearly_at: when three of four of them had; infinite while they have not.
        held_until: how long it waits for those that are deferred or away.
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
    nearly_at: float
    held_until: float
    evidence: Evidence | None

    @property
    def has_gates(self) -> bool:
        """Whether there is anything that can be breached."""
        policy, stage = self.policy, self.stage
        return bool(policy.gates or stage.gates or policy.expressions or stage.expressions)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ruling with its reason.

    Attributes:
        size: what the stage grows to.
        gates: what the gates said, if they were asked.
        broken: names of those that are breached.
        compared: what the gates of a stage that passes have compared, each as a sentence.
        wants_evidence: gates are to be judged, and there is nothing to judge them by.
        again_at: when time alone may change the ruling, beside what devices' standings say.
    """

    ruling: Ruling
    reason: str
    size: int = 0
    gates: tuple[GateResult, ...] = ()
    broken: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    wants_evidence: bool = False
    again_at: float = math.inf


def verdict(case: Case, now: float) -> Verdict:
    """What is to become of the stage at ``now`` (Unix seconds)."""
    broken = broken_budget(case.policy.budget, case.tally, case.record)
    if broken:
        return Verdict(Ruling.BREACH, broken)
    waits = _waits(case, now)
    if waits:
        return _meanwhile(case, waits, now)
    missing = unproven(case.policy.proof, case.so_far, case.accepted)
    if missing and case.record.size < case.most:
        return _grown(case, missing)
    if not case.tally.decided and case.tally.size:
        return _unseen(case, now)
    if missing or case.policy.proof.failing_below >= 1:
        lost = lost_too_many(case.policy.budget, case.so_far, case.accepted)
        if lost:
            return Verdict(Ruling.BREACH, lost)
    return _at_the_end(case, missing, now)


# --- What is waited for ---------------------------------------------------------------------------


def _waits(case: Case, now: float) -> str:
    """Why the stage is not settled (rule 3); empty if it is."""
    if case.due:
        return f"{case.due} to be released"
    if not case.so_far.size:
        return f"no device matches {case.stage.selector or 'it'} yet: waits until one does"
    parts = _unsettled(case.tally, case.settled_at, now)
    held = _is_held(case, now)
    if held:
        parts.append(f"{case.tally.deferred} deferred")
    if not held or case.tally.waiting or case.tally.soaking:
        return ", ".join(parts)
    left = span(case.held_until - now)
    then = "goes on without them" if case.tally.decided else "looks who else is there"
    return f"{parts[0]}: waits for them {left} at most, then {then}"


def _is_held(case: Case, now: float) -> bool:
    return case.tally.deferred > 0 and now < case.held_until


def _unsettled(tally: Tally, settled_at: float, now: float) -> list[str]:
    parts = [f"{tally.waiting} install"] if tally.waiting else []
    if tally.soaking:
        left = settled_at - now  # devices that restart begin again, so it may be over
        parts.append(
            f"{tally.soaking} soak, {f'{span(left)} left' if left > 0 else 'not over yet'}"
        )
    return parts


def _meanwhile(case: Case, waits: str, now: float) -> Verdict:
    """A stage that is not settled, judged where only stragglers are missing."""
    found = Verdict(
        Ruling.WAIT, waits, again_at=case.held_until if _is_held(case, now) else math.inf
    )
    if case.due or not case.has_gates:
        return found
    looks, next_at = look(case.nearly_at, case.stage.soak_seconds, now)
    found = replace(found, again_at=min(found.again_at, next_at))
    if not looks:
        return found
    if case.evidence is None:
        return replace(found, wants_evidence=True)
    results = _judged(case, case.evidence)
    return _breached(case, results) or replace(found, gates=results)


def _unseen(case: Case, now: float) -> Verdict:
    """A stage none of whose devices is there (rule 8)."""
    tally, id_ = case.tally, case.record.rollout
    who = [f"{n} {how}" for n, how in ((tally.away, "away"), (tally.deferred, "deferred")) if n]
    nobody = f"nobody is there ({', '.join(who)})"
    if NOBODY_THERE in case.record.accepted_gates:
        return Verdict(Ruling.GO_ON, f"{nobody}, which was accepted")
    if now < case.held_until:
        told = (
            f"{nobody}: waits for the first of them, and pauses in {span(case.held_until - now)} "
            f"if none comes; then `muster rollout resume {id_}` goes on without them"
        )
        return Verdict(Ruling.WAIT, told, again_at=case.held_until)
    told = f"{nobody}, and the deadline is over; `muster rollout resume {id_}` goes on without them"
    return Verdict(Ruling.PAUSE, told, broken=(NOBODY_THERE,))


# --- Budgets and proof ----------------------------------------------------------------------------


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
        return f"{decided} of at least {proof.minimum_devices} devices have tried it to the end"
    if proof.failing_below >= 1:
        return ""
    upper = upper_bound(failed, decided, proof.confidence)
    if upper < proof.failing_below:
        return ""
    return (
        f"{failed} of {decided} failed, yet it could be {percent(upper)} of all devices, and less "
        f"than {percent(proof.failing_below)} must be shown"
    )


# --- Gates ----------------------------------------------------------------------------------------


def _grown(case: Case, missing: str) -> Verdict:
    """More devices, unless those that have the version show that it is bad (rule 4)."""
    results: tuple[GateResult, ...] = ()
    if case.has_gates:
        if case.evidence is None:
            return _to_be_judged()
        results = _judged(case, case.evidence)
        if breach := _breached(case, results):
            return breach
    size = min(case.most, max(case.record.size + 1, int(case.record.size * GROWTH)))
    told = f"{missing}: grows from {case.record.size} to {size}"
    return Verdict(Ruling.GROW, told, size, gates=results)


def _at_the_end(case: Case, missing: str, now: float) -> Verdict:
    """The stage has shown all that it can, but for what its gates say."""
    asked = case.policy.proof.minimum_inferences
    if not (case.has_gates or asked):
        return Verdict(Ruling.GO_ON, _shown(case, missing))
    if case.evidence is None:
        return _to_be_judged()
    results = _judged(case, case.evidence)
    if breach := _breached(case, results):
        return breach
    alone = not case.evidence.control
    told = tuple(one for one in results if not (alone and one.name in _only_compare(case)))
    answered = sum(one.inferences for one in case.evidence.stage)
    if answered < asked:
        seen = f"{answered:,} of {asked:,} inferences"
        return Verdict(Ruling.WAIT, seen, gates=told, again_at=now + LOOK_SECONDS)
    open_ = [one.reason for one in told if one.verdict is GateVerdict.UNDECIDED]
    patience = case.settled_at + case.stage.soak_seconds
    if open_ and now < patience:
        again_at = min(patience, now + LOOK_SECONDS)
        return Verdict(Ruling.WAIT, "; ".join(open_), gates=told, again_at=again_at)
    shown = _shown(case, missing) + ("; nobody to compare with" if alone else "")
    return Verdict(Ruling.GO_ON, shown, gates=told, compared=tuple(map(_sentence, told)))


def _to_be_judged() -> Verdict:
    return Verdict(Ruling.WAIT, "the gates are to be judged", wants_evidence=True)


def _judged(case: Case, evidence: Evidence) -> tuple[GateResult, ...]:
    gates = (*case.policy.gates, *case.stage.gates)
    expressions = (*case.policy.expressions, *case.stage.expressions)
    seed = case.record.number * 1_000_003 + case.record.size
    return judge(gates, expressions, evidence, seed)


def _breached(case: Case, results: Sequence[GateResult]) -> Verdict | None:
    """The breach that gates show whom nobody has accepted."""
    broken = [
        one
        for one in results
        if one.verdict is GateVerdict.BREACHED and one.name not in case.record.accepted_gates
    ]
    if not broken:
        return None
    return Verdict(
        Ruling.BREACH,
        "; ".join(one.reason for one in broken),
        gates=tuple(results),
        broken=tuple(one.name for one in broken),
    )


def _only_compare(case: Case) -> set[str]:
    gates = (*case.policy.gates, *case.stage.gates)
    return {gate.metric.value for gate in gates if gate.limit is None}


def _sentence(result: GateResult) -> str:
    match result.verdict:
        case GateVerdict.PASSED:
            return result.reason
        case GateVerdict.BREACHED:
            return f"{result.reason} (breached, and accepted)"
        case GateVerdict.UNDECIDED:
            return f"{result.reason} (not decided)"


# --- Words ----------------------------------------------------------------------------------------


def _shown(case: Case, missing: str) -> str:
    so_far = case.so_far
    lost = so_far.failed + so_far.unreachable
    text = f"{so_far.ok} of {so_far.ok + lost} run it"
    late = [
        f"{count} {how}"
        for count, how in ((case.tally.deferred, "deferred"), (case.tally.away, "away"))
        if count
    ]
    if late:
        text += f", {' and '.join(late)}"
    return f"{text}; {missing}; there are no more devices for it" if missing else text


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
