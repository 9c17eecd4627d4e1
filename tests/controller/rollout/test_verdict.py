import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.rollout.account import Tally
from controller.rollout.policy import Budget, Expression, Policy, Proof, Stage
from controller.rollout.rollout import StageRecord, StageState
from controller.rollout.verdict import (
    NOBODY_THERE,
    Case,
    Ruling,
    accepted_of,
    broken_budget,
    percent,
    span,
    unproven,
    verdict,
)

NOW = 1_000_000.0
OPEN = StageRecord("r", 0, StageState.OPEN, size=10, opened_at=NOW - 100)
STAGE = Stage(name="all", percent=100, soak_seconds=600, deadline_seconds=1000)
BUDGET = Budget(failed=0.1, unreachable=0.2, confidence=0.95)
PROOF = Proof(minimum_devices=2, failing_below=0.3, confidence=0.95)
counts = st.integers(0, 60)
tallies = st.builds(
    lambda ok, soaking, failed, unreachable, waiting, deferred, away: Tally(
        ok + soaking, failed, unreachable, waiting, deferred, away, soaking
    ),
    *[counts] * 7,
)
budgets = st.builds(
    Budget,
    failed=st.floats(0, 0.5),
    unreachable=st.floats(0, 0.5),
    confidence=st.floats(0.5, 0.999),
)


def case(
    tally: Tally,
    record: StageRecord = OPEN,
    due: int = 0,
    most: int = 10,
    proof: Proof = PROOF,
    budget: Budget = BUDGET,
) -> Case:
    return Case(
        policy=Policy(stages=(STAGE,), budget=budget, proof=proof),
        stage=STAGE,
        record=record,
        tally=tally,
        so_far=tally,
        accepted=accepted_of(record, tally),
        due=due,
        most=most,
        settled_at=NOW,
        nearly_at=NOW,
        held_until=OPEN.opened_at + STAGE.deadline_seconds,
        evidence=None,
    )


@pytest.mark.parametrize(
    ("told", "expected", "reason"),
    [
        # One of three does not kill, and none of three does not bless.
        (case(Tally(ok=2, failed=1), due=3), Ruling.WAIT, "3 to be released"),
        (case(Tally(ok=2, failed=1, waiting=9)), Ruling.WAIT, "9 install"),
        (case(Tally(ok=3), most=20), Ruling.GROW, "0 of 3 failed, yet it could be 63 % of all"),
        (case(Tally(ok=10)), Ruling.GO_ON, "10 of 10 run it"),
        (case(Tally(ok=5, failed=5)), Ruling.BREACH, "5 of 10 failed: above 10 %"),
        (case(Tally(ok=5, unreachable=5)), Ruling.BREACH, "5 of 10 are unreachable: above 20 %"),
        # At the end, when nothing more can be learnt, the share itself decides.
        (case(Tally(ok=3, failed=1)), Ruling.BREACH, "no more devices to learn from"),
        (case(Tally(ok=3)), Ruling.GO_ON, "there are no more devices for it"),
        (case(Tally(ok=10, soaking=4)), Ruling.WAIT, "4 soak"),
        # Who is away holds nobody up; who is deferred does for as long as the deadline.
        (case(Tally(ok=10, away=30)), Ruling.GO_ON, "10 of 10 run it, 30 away"),
        (
            case(Tally(ok=10, deferred=30)),
            Ruling.WAIT,
            "30 deferred: waits for them 15 min at most, then goes on without them",
        ),
        (
            case(Tally(deferred=30), most=20),
            Ruling.WAIT,
            "30 deferred: waits for them 15 min at most, then looks who else is there",
        ),
        (case(Tally(ok=10, waiting=2, deferred=30)), Ruling.WAIT, "2 install, 30 deferred"),
        (case(Tally(away=3), most=20), Ruling.GROW, "0 of at least 2 devices have tried it"),
        (
            case(Tally(away=3)),
            Ruling.WAIT,
            "nobody is there (3 away): waits for the first of them, and pauses in 15 min",
        ),
        (case(Tally()), Ruling.WAIT, "no device matches it yet: waits until one does"),
        # Silence proves nothing.
        (
            case(Tally(ok=1, unreachable=20), budget=Budget(unreachable=1.0), most=30),
            Ruling.GROW,
            "1 of at least 2 devices have tried it",
        ),
    ],
)
def test_a_stage_is_ruled_by_what_its_devices_show(
    told: Case, expected: Ruling, reason: str
) -> None:
    found = verdict(told, NOW)

    assert (found.ruling, reason in found.reason) == (expected, True), found.reason


def test_deferred_devices_hold_a_stage_up_until_its_deadline_and_no_longer() -> None:
    for tally in (Tally(ok=1, deferred=30), Tally(ok=10, deferred=30)):
        told = case(tally, proof=Proof(minimum_devices=2))

        waits = verdict(told, told.held_until - 1)
        assert (waits.ruling, waits.again_at) == (Ruling.WAIT, told.held_until)
        after = verdict(told, told.held_until)
        assert (after.ruling, "30 deferred" in after.reason) == (Ruling.GO_ON, True)


def test_a_stage_of_which_nobody_is_there_pauses_at_its_deadline_until_that_is_accepted() -> None:
    told = case(Tally(away=3, deferred=1))

    waits = verdict(told, told.held_until - 1)
    assert (waits.ruling, waits.again_at) == (Ruling.WAIT, told.held_until)
    paused = verdict(told, told.held_until)
    assert (paused.ruling, paused.broken) == (Ruling.PAUSE, (NOBODY_THERE,))
    assert "(3 away, 1 deferred), and the deadline is over" in paused.reason
    assert "`muster rollout resume r` goes on without them" in paused.reason

    accepted = replace(told, record=replace(OPEN, accepted_gates=paused.broken))
    assert verdict(accepted, told.held_until).ruling is Ruling.GO_ON
    # Somebody comes after all, and is judged like any other.
    late = replace(accepted, tally=Tally(failed=4), so_far=Tally(failed=4))
    assert verdict(late, told.held_until).ruling is Ruling.BREACH


def test_no_gate_can_bear_the_name_that_stands_for_nobody() -> None:
    with pytest.raises(ValidationError):
        Expression(name=NOBODY_THERE, holds="stage.devices > 1")


def test_a_stage_grows_to_the_size_of_the_next_and_no_further() -> None:
    sizes, record = [], replace(OPEN, size=1)
    while True:
        found = verdict(case(Tally(ok=1), record, most=10), NOW)
        if found.ruling is not Ruling.GROW:
            break
        sizes.append(found.size)
        record = replace(record, size=found.size)

    assert sizes == [2, 3, 4, 6, 9, 10]
    assert found.ruling is Ruling.GO_ON


def test_what_was_accepted_counts_on_neither_side() -> None:
    accepted = replace(OPEN, accepted_failed=5)

    assert broken_budget(BUDGET, Tally(ok=5, failed=5), accepted) == ""
    assert broken_budget(BUDGET, Tally(ok=5, failed=9), accepted)


def test_what_was_accepted_and_came_back_is_no_credit() -> None:
    accepted = replace(OPEN, accepted_unreachable=8)

    assert accepted_of(accepted, Tally(ok=20)) == (0, 0)
    assert broken_budget(BUDGET, Tally(ok=12, failed=8), accepted).startswith("8 of 20 failed")


@given(budgets, tallies, st.integers(0, 5), st.integers(0, 5))
def test_a_budget_that_is_broken_stays_so_with_more_failures(
    budget: Budget, tally: Tally, failed: int, unreachable: int
) -> None:
    worse = replace(tally, failed=tally.failed + failed, ok=max(tally.soaking, tally.ok - failed))
    if broken_budget(budget, tally, OPEN) and worse.unreachable == tally.unreachable:
        grown = worse.told - tally.told
        assert grown > 0 or broken_budget(budget, worse, OPEN)


@given(budgets, tallies)
def test_a_budget_that_holds_holds_with_a_larger_allowance(budget: Budget, tally: Tally) -> None:
    wider = Budget(failed=0.6, unreachable=0.6, confidence=budget.confidence)

    assert not broken_budget(wider, tally, OPEN) or broken_budget(budget, tally, OPEN)


@given(tallies, st.integers(1, 20))
def test_more_that_succeed_never_unprove(tally: Tally, more: int) -> None:
    if not unproven(PROOF, tally, (0, 0)):
        assert not unproven(PROOF, replace(tally, ok=tally.ok + more), (0, 0))


@given(tallies, st.integers(1, 20))
def test_silence_never_proves(tally: Tally, more: int) -> None:
    silent = replace(tally, unreachable=tally.unreachable + more)

    assert unproven(PROOF, silent, (0, 0)) == unproven(PROOF, tally, (0, 0))


@given(tallies, st.integers(0, 5), st.integers(1, 30), st.floats(0, 5000))
def test_no_verdict_passes_while_somebody_installs_or_soaks(
    tally: Tally, due: int, most: int, later: float
) -> None:
    told = case(tally, due=due, most=most)
    found = verdict(told, NOW + later)

    assert found.reason
    if found.ruling in {Ruling.GO_ON, Ruling.GROW}:
        assert due + tally.waiting + tally.soaking == 0
        assert not tally.deferred or NOW + later >= told.held_until
    if found.ruling is Ruling.GROW:
        assert OPEN.size < found.size <= most
    if found.ruling is Ruling.PAUSE:
        assert tally.decided == 0 < tally.away + tally.deferred
        assert NOW + later >= told.held_until
    assert found.again_at > NOW + later or math.isinf(found.again_at)


@given(tallies, st.integers(1, 30), st.booleans())
def test_no_stage_waits_without_end_for_devices_that_do_nothing(
    tally: Tally, most: int, accepted: bool
) -> None:
    """Until nobody installs or soaks any more it may; then it waits for its deadline at most."""
    quiet = replace(tally, ok=tally.ok - tally.soaking, waiting=0, soaking=0, away=tally.away + 1)
    record = replace(OPEN, accepted_gates=(NOBODY_THERE,)) if accepted else OPEN
    told = case(quiet, record, most=most)

    before, after = verdict(told, told.held_until - 1), verdict(told, told.held_until)

    assert before.ruling is not Ruling.WAIT or before.again_at == told.held_until
    assert after.ruling is not Ruling.WAIT
    assert not (accepted and after.ruling is Ruling.PAUSE)


@given(st.floats(0, 1e9), st.floats(0.0001, 1))
def test_spans_and_shares_are_short(seconds: float, share: float) -> None:
    assert len(span(seconds)) < 20
    assert len(percent(share)) < 8
