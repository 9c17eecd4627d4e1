"""What a rollout asks of its devices' soaks, and what their reports make of it."""

from dataclasses import replace

import pytest

from controller.rollout.assignments import assignments, says
from controller.rollout.draft import Draft
from controller.rollout.facts import Facts
from controller.rollout.ledger import Ledger
from controller.rollout.plan import plan
from controller.rollout.policy import Policy, Stage, soak_asked
from controller.rollout.reversal import reversal
from controller.rollout.rollout import CONTROL, Wanted
from controller.telemetry.bounds import Unacceptable
from controller.telemetry.report import checked_report
from protos.documents import MAX_SOAK_SECONDS, Directive, Report, SlotReport
from tests.controller.rollout.few_facts import ALONE, MEMBER, NOW, rollout, slot

STAGES = Policy(
    stages=(
        Stage(name="canary", count=1, soak_seconds=0.5),
        Stage(name="half", percent=50, soak_seconds=3.2e8),
        Stage(name="all", percent=100, soak_seconds=60),
    )
)
WHERE = ("d1", "digits", "champion")


def soaking(seconds: float) -> Policy:
    return Policy(stages=(Stage(name="all", percent=100, soak_seconds=seconds),))


def directed(rows: tuple[Wanted, ...]) -> Directive:
    told = assignments(rows, ALONE.releases, {one.id: one for one in ALONE.rollouts})
    return Directive(device="d1", generation=1, issued_at=0, assignments=told)


# --- What is asked --------------------------------------------------------------------------------


def test_a_stage_asks_for_whole_seconds_and_who_comes_after_the_last_is_held_to_it() -> None:
    assert [soak_asked(STAGES, number) for number in range(5)] == [1, MAX_SOAK_SECONDS, 60, 60, 60]


def test_a_row_asks_for_the_soak_of_its_stage() -> None:
    facts = replace(ALONE, rollouts=(rollout(2, policy=STAGES),), wanted=())
    made = {}
    for number in range(4):
        draft = Draft(Ledger.of(facts), {}, NOW)
        draft.want(facts.rollouts[0], replace(MEMBER, stage=number))
        made[number] = draft.assign[WHERE].soak_seconds

    assert made == {0: 1, 1: MAX_SOAK_SECONDS, 2: 60, 3: 60}


def test_a_row_from_before_soaks_were_asked_for_is_asked_anew_and_only_once() -> None:
    facts = replace(ALONE, rollouts=(rollout(2, policy=soaking(60)),))
    (row,) = plan(facts, NOW).assign
    again = replace(facts, wanted=(row,))

    assert (row.rollout, row.version, row.attempt, row.soak_seconds) == ("r0", 2, 1, 60)
    assert plan(again, NOW).assign == ()


def test_a_directive_says_what_its_row_asks_for_and_another_soak_is_another_directive() -> None:
    (row,) = ALONE.wanted
    minute = replace(row, soak_seconds=60)

    assert [one.soak_seconds for one in directed((row, minute)).assignments] == [0, 60]
    assert says(directed((minute,)), [minute])
    assert not says(directed((row,)), [minute])
    assert not says(directed((minute,)), [replace(row, soak_seconds=90)])


def test_who_is_put_back_is_asked_for_no_soak() -> None:
    row = replace(ALONE.wanted[0], soak_seconds=60)
    member = replace(MEMBER, before=1)

    (back,) = reversal(rollout(2), [member], {WHERE: row}.get, lambda _: (), ALONE.releases).restore

    assert (back.version, back.soak_seconds) == (1, 0)


def test_who_leaves_is_asked_for_no_soak_of_what_it_ran_before() -> None:
    ran = slot("d1", 1, "committed", running=True)
    row = replace(ALONE.wanted[0], soak_seconds=60)
    facts: Facts = replace(ALONE, rollouts=(rollout(2, "site=oslo"),), slots=(ran,), wanted=(row,))

    (back,) = plan(facts, NOW).restore

    assert (back.version, back.rollout, back.soak_seconds) == (1, "", 0)
    assert MEMBER.stage != CONTROL


# --- What is reported -----------------------------------------------------------------------------


def reported(soaked: int) -> int:
    said = SlotReport(model="digits", slot="champion", version=1, state="committed", soaked=soaked)
    report = Report(device="d1", counter=2, generation=1, reported_at=0, running=(said,))
    (kept,) = checked_report("d1", report, b"", 1, NOW).slots
    return kept.soaked


def test_what_a_device_says_of_its_soak_is_kept() -> None:
    assert [reported(one) for one in (0, 1, MAX_SOAK_SECONDS)] == [0, 1, MAX_SOAK_SECONDS]


@pytest.mark.parametrize("soaked", [-1, MAX_SOAK_SECONDS + 1, 2**80])
def test_a_soak_that_can_not_be_is_no_report(soaked: int) -> None:
    with pytest.raises(Unacceptable, match="soaked"):
        reported(soaked)
