import dataclasses

import pytest

from controller.registry import version as registry
from controller.rollout.check import directive_violations, violations
from controller.rollout.draft import Plan
from controller.rollout.facts import Facts
from controller.rollout.plan import plan
from controller.rollout.rollout import (
    State,
    Wanted,
)
from protos.documents import Assignment, Directive
from tests.controller.rollout.few_facts import (
    ALONE,
    NOW,
    known,
    release,
    rollout,
)
from tests.controller.rollout.world import device

ROW = Wanted("d1", "digits", "champion", 2, "r0", NOW)
MUNICH = device("d1", {"site": "munich"}, {})
BARE = dataclasses.replace(ALONE, wanted=(), members=())


@pytest.mark.parametrize(
    ("before", "bad", "found"),
    [
        (BARE, Plan(assign=(ROW, ROW)), "changed 2 times"),
        (BARE, Plan(remove=(ROW,)), "no row to restore or remove"),
        (
            dataclasses.replace(
                BARE, releases={("digits", 2): release(2, registry.State.APPROVED)}
            ),
            Plan(assign=(ROW,)),
            "digits/2 is not published",
        ),
        (
            dataclasses.replace(BARE, rollouts=(rollout(2, state=State.ABORTED),)),
            Plan(assign=(ROW,)),
            "r0 assigns nothing",
        ),
        (
            BARE,
            Plan(assign=(dataclasses.replace(ROW, version=1),)),
            "r0 does not want digits/1 for champion",
        ),
        (dataclasses.replace(BARE, devices=()), Plan(assign=(ROW,)), "d1 is not active"),
        (
            dataclasses.replace(BARE, rollouts=(rollout(2, "site=berlin"),), devices=(MUNICH,)),
            Plan(assign=(ROW,)),
            "d1 does not match site=berlin",
        ),
        (
            dataclasses.replace(
                BARE,
                releases={("digits", 2): release(2, memory=10)},
                devices=(device("d1", {}, {"memory_bytes": "1"}),),
            ),
            Plan(assign=(ROW,)),
            "d1 can't run digits/2",
        ),
        (
            dataclasses.replace(BARE, rollouts=(rollout(2), rollout(1, at=5))),
            Plan(assign=(ROW,)),
            "d1 belongs to r5, which is newer than r0",
        ),
        (BARE, Plan(assign=(ROW,)), "d1 is assigned and not released by r0"),
        (
            dataclasses.replace(ALONE, members=()),
            Plan(restore=(ROW,)),
            "d1 has not proven that it runs digits/2",
        ),
        (
            dataclasses.replace(BARE, rollouts=(rollout(2, state=State.SUPERSEDED),)),
            Plan(rollouts=(rollout(2, state=State.ABORTED),)),
            "r0 can't become aborted",
        ),
        (
            BARE,
            Plan(
                rollouts=(rollout(2, state=State.SUCCEEDED),),
                progress=plan(BARE, NOW).progress,
            ),
            "r0 succeeded with stages that have not passed",
        ),
        (ALONE, Plan(forget=("r0",)), "the members of r0 are needed"),
    ],
)
def test_a_plan_that_breaks_a_rule_is_found_out(before: Facts, bad: Plan, found: str) -> None:
    assert any(found in line for line in violations(known(before), bad, NOW))


def test_a_directive_that_breaks_a_rule_is_found_out() -> None:
    one = Assignment(model="digits", version=1, target="t", sha256="0", length=1)
    first = Directive(device="d1", generation=4, issued_at=0, assignments=(one,))
    twice = Directive(device="d1", generation=4, issued_at=0, assignments=(one, one))
    other = Directive(device="d2", generation=5, issued_at=0)

    assert directive_violations(None, first) == ()
    assert directive_violations(first, twice) == (
        "d1: generation 4 after 4",
        "d1: 2 versions for digits, champion",
    )
    assert directive_violations(first, other) == ("d2: follows a directive for d1",)
