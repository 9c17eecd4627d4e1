import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.rollout.account import Tally
from controller.rollout.policy import Budget, Policy, Proof, Stage
from controller.rollout.rollout import StageRecord, StageState
from controller.rollout.verdict import (
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
        evidence=None,
    )


@pytest.mark.parametrize(
    ("told", "expected", "reason"),
    [
        # One of three does not kill, and none of three does not bless.
        (case(Tally(ok=2, failed=1), due=3), Ruling.WAIT, "3 to be released"),
        (case(Tally(ok=2, failed=1, waiting=9)), Ruling.WAIT, "9 install"),
        (case(Tally(ok=3), most=20), Ruling.GROW, "0 of 3 failed: up to 63 % may fail"),
        (case(Tally(ok=10)), Ruling.GO_ON, "10 of 10 run it"),
        (case(Tally(ok=5, failed=5)), Ruling.BREACH, "5 of 10 failed: above 10 %"),
        (case(Tally(ok=5, unreachable=5)), Ruling.BREACH, "5 of 10 are unreachable: above 20 %"),
        # At the end, when nothing more can be learnt, the share itself decides.
        (case(Tally(ok=3, failed=1)), Ruling.BREACH, "no more devices to learn from"),
        (case(Tally(ok=3)), Ruling.GO_ON, "there are no more devices for it"),
        (case(Tally(ok=10, soaking=4)), Ruling.WAIT, "4 soak"),
        # Who is away holds nobody up; who is deferred does for as long as the deadline.
        (case(Tally(ok=10, away=30)), Ruling.GO_ON, "10 of 10 run it"),
        (case(Tally(ok=10, deferred=30)), Ruling.GO_ON, "10 of 10 run it"),
        (case(Tally(ok=1, deferred=30)), Ruling.WAIT, "30 deferred"),
        (case(Tally(away=3)), Ruling.WAIT, "no device is there to show anything"),
        (case(Tally()), Ruling.WAIT, "no device matches it yet"),
        # Silence proves nothing.
        (
            case(Tally(ok=1, unreachable=20), budget=Budget(unreachable=1.0), most=30),
            Ruling.GROW,
            "1 of 2 devices are decided",
        ),
    ],
)
def test_a_stage_is_ruled_by_what_its_devices_show(
    told: Case, expected: Ruling, reason: str
) -> None:
    found = verdict(told, NOW)

    assert (found.ruling, reason in found.reason) == (expected, True), found.reason


def test_deferred_devices_hold_a_stage_up_until_its_deadline_and_no_longer() -> None:
    told = case(Tally(ok=1, deferred=30), proof=Proof(minimum_devices=2))
    end = OPEN.opened_at + STAGE.deadline_seconds

    waits = verdict(told, end - 1)
    assert (waits.ruling, waits.again_at) == (Ruling.WAIT, end)
    assert verdict(told, end).ruling is Ruling.GO_ON


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
    found = verdict(case(tally, due=due, most=most), NOW + later)

    assert found.reason
    if found.ruling in {Ruling.GO_ON, Ruling.GROW}:
        assert due + tally.waiting + tally.soaking == 0
    if found.ruling is Ruling.GROW:
        assert OPEN.size < found.size <= most
    assert found.again_at > NOW + later or math.isinf(found.again_at)


@given(st.floats(0, 1e9), st.floats(0.0001, 1))
def test_spans_and_shares_are_short(seconds: float, share: float) -> None:
    assert len(span(seconds)) < 20
    assert len(percent(share)) < 8
