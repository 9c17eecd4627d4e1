import dataclasses

from hypothesis import given, settings

from controller.rollout.check import violations
from controller.rollout.explain import told
from controller.rollout.facts import Facts
from controller.rollout.plan import account, accounts, plan
from controller.rollout.progress import accounts_of
from controller.rollout.rollout import (
    FINAL,
    OPEN,
    State,
    Wanted,
)
from controller.rollout.standing import Outcome, Standing
from tests.controller.rollout.any_facts import facts, recorded
from tests.controller.rollout.few_facts import (
    ALONE,
    MEMBER,
    NOW,
    known,
    rollout,
)


def test_a_rollout_of_a_version_that_nobody_knows_is_aborted() -> None:
    made = plan(dataclasses.replace(ALONE, releases={}, wanted=()), NOW)

    assert made.assign == ()
    assert [(one.id, one.state) for one in made.rollouts] == [("r0", State.ABORTED)]


@settings(max_examples=100, deadline=None)  # the next law holds the first of its plans to this, too
@given(facts())
def test_every_plan_obeys_every_rule(before: Facts) -> None:
    assert violations(known(before), plan(before, NOW), NOW) == ()


@settings(max_examples=150, deadline=None)
@given(facts())
def test_planning_again_soon_changes_nothing_more(before: Facts) -> None:
    after = before
    for _ in range(12):
        made = plan(after, NOW)
        assert violations(known(after), made, NOW) == ()
        if made.empty:
            break
        after = recorded(after, made)
    assert made.empty, made


@settings(max_examples=100, deadline=None)
@given(facts())
def test_every_device_of_a_rollout_is_accounted_for_once(before: Facts) -> None:
    made = plan(before, NOW)
    for progress in made.progress:
        names = [one.device for one in progress.standings]
        assert len(names) == len(set(names))
        if progress.rollout.state in OPEN:
            assert not set(names) & set(progress.incompatible)
            assert not set(names) & set(progress.taken)
            assert not set(names) & set(progress.held)
        assert sum(progress.count(outcome) for outcome in Outcome) == len(names)


@settings(max_examples=100, deadline=None)
@given(facts())
def test_every_plan_says_why(before: Facts) -> None:
    made = plan(before, NOW)

    states = {one.id: one.state for one in before.rollouts}
    for row in (*made.assign, *made.restore, *made.remove):
        if states.get(row.rollout) in OPEN:
            assert row.device in "\n".join(made.because)
    closed = {"r0": (Standing("d1", Outcome.OK, "committed"),)}
    each = [
        accounts_of(
            one, closed.get(one.id, ()), [of for of in before.stages if of.rollout == one.id]
        )
        if one.state in FINAL
        else account(one, before, NOW)
        for one in before.rollouts
    ]
    assert all(told(one) for one in each)
    assert accounts(before, closed, NOW) == tuple(each)


def test_members_are_forgotten_once_their_rollout_wants_nothing_any_more() -> None:
    older, newer = rollout(1, state=State.SUCCEEDED), rollout(2, at=1, state=State.SUCCEEDED)
    members = (MEMBER, dataclasses.replace(MEMBER, rollout="r1"))
    row = Wanted("d1", "digits", "champion", 2, "r1", NOW)
    both = dataclasses.replace(ALONE, rollouts=(older, newer), members=members, stages=())

    assert plan(dataclasses.replace(both, wanted=(row,)), NOW).forget == ("r0",)
    assert plan(dataclasses.replace(both, rollouts=(older,), wanted=()), NOW).forget == ()

    mine = Wanted("d1", "digits", "champion", 1, "r0", NOW)
    assert plan(dataclasses.replace(both, rollouts=(older,), wanted=(mine,)), NOW).forget == ()
