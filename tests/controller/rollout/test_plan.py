import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.fleet.device import DeviceStatus, SlotState
from controller.registry import version as registry
from controller.rollout.account import Question, standing
from controller.rollout.check import directive_violations, violations
from controller.rollout.compatibility import objections
from controller.rollout.draft import Plan
from controller.rollout.facts import Facts, Release, place
from controller.rollout.plan import account, account_ended, accounts, plan
from controller.rollout.policy import AT_ONCE, Breach, Budget, Pace, Policy, Proof, Stage
from controller.rollout.rollout import (
    CONTROL,
    FINAL,
    OPEN,
    Member,
    Rollout,
    StageRecord,
    StageState,
    State,
    Wanted,
)
from controller.rollout.standing import Outcome, Standing
from protos.documents import Assignment, Directive
from protos.manifest import Needs
from tests.controller.rollout.world import START, device

NOW = START + 3600
SITES = ("berlin", "munich", "paris")
SELECTORS = ("all", "site=berlin", "site!=berlin", "site in (munich, paris)", "has gpu", "id=d1")
STATES = ("verifying", "fetching", "probation", "committed", "failed", "idle")


def release(
    version: int, state: registry.State = registry.State.PUBLISHED, memory: int = 0
) -> Release:
    digest = f"{version:064x}"
    return Release("digits", version, state, digest, 100, Needs(memory_bytes=memory))


def rollout(
    version: int,
    selector: str = "all",
    at: int = 0,
    state: State = State.RUNNING,
    policy: Policy = AT_ONCE,
) -> Rollout:
    return Rollout(f"r{at}", "digits", version, selector, state, START + at, "ada", policy=policy)


def slot(name: str, version: int, state: str, *, running: bool, **fields: object) -> SlotState:
    made = SlotState(
        name, "digits", "champion", version, running, state, f"{version:064x}", "", 1, 1, 1, START
    )
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


MEMBER = Member("r0", "d1", 0, START)
ALONE = Facts(
    rollouts=(rollout(2),),
    members=(MEMBER,),
    stages=(StageRecord("r0", 0, StageState.OPEN, 1, START),),
    devices=(device("d1", {"site": "berlin"}, {}),),
    wanted=(Wanted("d1", "digits", "champion", 2, "r0", START),),
    releases={("digits", 1): release(1), ("digits", 2): release(2)},
    asked={("d1", "digits", "champion"): 3},
)


@pytest.mark.parametrize(
    ("slots", "connected", "expected"),
    [
        ((), True, (Outcome.WAITING, "")),
        ((), False, (Outcome.AWAY, "")),
        ((slot("d1", 2, "committed", running=True),), True, (Outcome.OK, "committed")),
        ((slot("d1", 2, "committed", running=True),), False, (Outcome.OK, "committed")),
        ((slot("d1", 2, "committed", running=False),), True, (Outcome.WAITING, "committed")),
        ((slot("d1", 2, "probation", running=True),), True, (Outcome.WAITING, "probation")),
        ((slot("d1", 1, "committed", running=True),), True, (Outcome.WAITING, "")),
        (
            (slot("d1", 2, "committed", running=True, manifest_sha256="f" * 64),),
            True,
            (Outcome.WAITING, "committed with another manifest"),
        ),
        (
            (slot("d1", 2, "failed", running=False, generation=3, code="self-test-slow"),),
            True,
            (Outcome.FAILED, "failed"),
        ),
        (
            (slot("d1", 2, "failed", running=False, generation=4),),
            False,
            (Outcome.FAILED, "failed"),
        ),
        # An answer to an older question.
        ((slot("d1", 2, "failed", running=False, generation=2),), True, (Outcome.WAITING, "")),
        ((slot("d1", 1, "failed", running=False, generation=3),), True, (Outcome.WAITING, "")),
        (
            (
                slot("d1", 1, "committed", running=True, generation=3),
                slot("d1", 2, "fetching", running=False, generation=3),
            ),
            True,
            (Outcome.WAITING, "fetching"),
        ),
    ],
)
def test_only_proof_is_ok_and_only_an_answer_is_a_failure(
    slots: tuple[SlotState, ...], connected: bool, expected: tuple[Outcome, str]
) -> None:
    one = dataclasses.replace(ALONE.devices[0], connected=connected, last_seen=NOW)

    question = Question(MEMBER, AT_ONCE.stages[0], release(2), 3, 86_400.0)
    found = standing(one, slots, question, NOW)

    assert (found.outcome, found.doing) == expected


@pytest.mark.parametrize(
    ("facts", "version", "expected"),
    [
        ({}, Needs(arch=("aarch64",), memory_bytes=10**12, minimum_runtime="9.9"), ()),
        ({"arch": "aarch64"}, Needs(arch=("aarch64", "armv7l")), ()),
        ({"arch": "x86_64"}, Needs(arch=("aarch64",)), ("needs aarch64, is x86_64",)),
        ({"arch": "arm64"}, Needs(arch=("aarch64",)), ()),
        ({"arch": "x86_64"}, Needs(arch=("AMD64",)), ()),
        ({"runtimes.onnxruntime": "1.21.0+cu12"}, Needs(minimum_runtime="1.21"), ()),
        (
            {"runtimes.onnxruntime": "1.20.0+cu12"},
            Needs(minimum_runtime="1.21"),
            ("needs onnxruntime 1.21, has 1.20.0+cu12",),
        ),
        (
            {"memory_bytes": str(256 * 1024**2)},
            Needs(memory_bytes=512 * 1024**2),
            ("needs 512 MiB of memory, has 256 MiB",),
        ),
        ({"runtimes.other": "1"}, Needs(), ("needs onnxruntime, has none",)),
        ({"runtimes.onnxruntime": "1.20"}, Needs(minimum_runtime="1.20.0"), ()),
        (
            {"runtimes.onnxruntime": "1.9.1"},
            Needs(minimum_runtime="1.20"),
            ("needs onnxruntime 1.20, has 1.9.1",),
        ),
    ],
)
def test_every_reason_why_a_device_can_not_run_a_version_is_given(
    facts: dict[str, str], version: Needs, expected: tuple[str, ...]
) -> None:
    needing = dataclasses.replace(release(1), needs=version)

    assert objections(needing, device("d1", {}, facts)) == expected


def test_an_agent_that_is_too_old_is_not_asked() -> None:
    needing = dataclasses.replace(release(1), minimum_agent="0.2")

    assert objections(needing, device("d1", {}, {"agent_version": "0.1.9"})) == (
        "needs agent 0.2, has 0.1.9",
    )
    assert objections(needing, device("d1", {}, {"agent_version": "0.2.0"})) == ()


def test_a_rollout_of_a_version_that_nobody_knows_is_aborted() -> None:
    made = plan(dataclasses.replace(ALONE, releases={}, wanted=()), NOW)

    assert made.assign == ()
    assert [(one.id, one.state) for one in made.rollouts] == [("r0", State.ABORTED)]


# --- Laws over any facts --------------------------------------------------------------------------

devices = st.builds(
    lambda name, site, gpu, memory, connected, revoked: dataclasses.replace(
        device(name, {"site": site, **gpu}, memory),
        connected=connected,
        status=DeviceStatus.REVOKED if revoked else DeviceStatus.ACTIVE,
    ),
    st.sampled_from(["d1", "d2", "d3", "d4", "d5"]),
    st.sampled_from(SITES),
    st.sampled_from([{}, {"gpu": "yes"}]),
    st.sampled_from([{}, {"memory_bytes": "100"}, {"memory_bytes": "1000"}]),
    st.booleans(),
    st.integers(0, 9).map(lambda roll: roll == 0),
)
policies = st.sampled_from(
    [
        AT_ONCE,
        AT_ONCE,
        Policy(
            stages=(
                Stage(name="one", count=1, soak_seconds=0),
                Stage(name="all", percent=100, soak_seconds=60),
            ),
            control_percent=40,
        ),
        Policy(
            stages=(
                Stage(name="berlin", selector="site=berlin", on_breach=Breach.ROLLBACK_STAGE),
                Stage(name="all", percent=100, approval=True, on_breach=Breach.ROLLBACK_ALL),
            ),
            stratify_by=("site",),
            pace=Pace(per_minute=1, per_site=1),
            proof=Proof(minimum_devices=2, failing_below=0.5),
            budget=Budget(failed=0.3),
        ),
    ]
)
rollouts = st.builds(
    rollout,
    st.integers(1, 3),
    st.sampled_from(SELECTORS),
    st.integers(0, 9),
    st.sampled_from(
        [State.RUNNING, State.RUNNING, State.PAUSED, State.ROLLING_BACK, *sorted(FINAL)]
    ),
    policies,
)
slots = st.builds(
    lambda name, version, running, state, generation, odd: slot(
        name,
        version,
        state,
        running=running,
        generation=generation,
        **({"manifest_sha256": "f" * 64} if odd else {}),
    ),
    st.sampled_from(["d1", "d2", "d3", "d4", "d5"]),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(STATES),
    st.integers(1, 4),
    st.integers(0, 5).map(lambda roll: roll == 0),
)
releases = st.tuples(
    *(
        st.builds(
            release,
            st.just(version),
            st.sampled_from([registry.State.PUBLISHED] * 4 + [registry.State.RECALLED]),
            st.sampled_from([0, 500]),
        )
        for version in (1, 2, 3)
    )
).map(lambda made: {(one.model, one.version): one for one in made})


@st.composite
def stage_records(draw: st.DrawFn, of: Rollout) -> list[StageRecord]:
    """Some have passed, one is at work, the others wait for their turn; or none began."""
    number = len(of.policy.stages) + bool(of.policy.control_percent)
    at_work = draw(st.integers(-1, number - 1))
    if at_work < 0:
        return []
    odd = st.sampled_from([StageState.HELD, StageState.OPEN, StageState.OPEN])
    stopped = st.sampled_from([StageState.OPEN, StageState.BREACHED, StageState.REVERTED])
    state = draw(stopped if of.state is State.PAUSED else odd)
    before, after = StageState.PASSED, StageState.PENDING
    return [
        StageRecord(
            of.id,
            at,
            before if at < at_work else state if at == at_work else after,
            draw(st.integers(1, 4)) if at <= at_work and state is not StageState.HELD else 0,
            START if at <= at_work else 0.0,
        )
        for at in range(number)
    ]


@st.composite
def members_of(draw: st.DrawFn, of: Rollout) -> list[Member]:
    return draw(
        st.lists(
            st.builds(
                lambda name, stage, before, proven: Member(
                    of.id, name, stage, 0.0 if stage == CONTROL else START, 0.0, before, proven
                ),
                st.sampled_from(["d1", "d2", "d3", "d4", "d5", "gone"]),
                st.integers(CONTROL if of.policy.control_percent else 0, 1),
                st.integers(0, 3),
                st.sampled_from([0.0, START]),
            ),
            max_size=4,
            unique_by=lambda one: one.device,
        )
    )


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    known = draw(st.lists(devices, max_size=5, unique_by=lambda one: one.id))
    running = draw(st.lists(rollouts, max_size=4, unique_by=lambda one: one.id))
    rows = draw(
        st.lists(
            st.builds(
                lambda name, version, of: Wanted(name, "digits", "champion", version, of, START),
                st.sampled_from(["d1", "d2", "d3", "d4", "d5", "gone"]),
                st.integers(1, 3),
                st.sampled_from(["", "lost", *(one.id for one in running)]),
            ),
            max_size=5,
            unique_by=lambda row: row.device,
        )
    )
    said = draw(st.lists(slots, max_size=8, unique_by=lambda one: (one.device, one.running)))
    asked = draw(st.dictionaries(st.sampled_from(["d1", "d2", "d3"]), st.integers(1, 4)))
    stages = [one for of in running for one in draw(stage_records(of))]
    members = [one for of in running for one in draw(members_of(of))]
    return Facts(
        rollouts=tuple(running),
        stages=tuple(stages),
        members=tuple(members),
        devices=tuple(known),
        wanted=tuple(rows),
        slots=tuple(said),
        releases=draw(releases),
        asked={(name, "digits", "champion"): at for name, at in asked.items()},
    )


def recorded(before: Facts, made: Plan) -> Facts:
    rows = {place(row): row for row in before.wanted}
    for row in made.remove:
        del rows[place(row)]
    rows |= {place(row): row for row in (*made.assign, *made.restore)}
    rollouts = {one.id: one for one in (*before.rollouts, *made.rollouts)}
    members = {(one.rollout, one.device): one for one in (*before.members, *made.members)}
    stages = {(one.rollout, one.number): one for one in (*before.stages, *made.stages)}
    new = {place(row) for row in made.assign}
    return dataclasses.replace(
        before,
        wanted=tuple(rows.values()),
        rollouts=tuple(rollouts.values()),
        members=tuple(members.values()),
        stages=tuple(stages.values()),
        asked={where: at for where, at in before.asked.items() if where not in new},
    )


@settings(max_examples=400, deadline=None)
@given(facts())
def test_every_plan_obeys_every_rule(before: Facts) -> None:
    assert violations(before, plan(before, NOW), NOW) == ()


@settings(max_examples=400, deadline=None)
@given(facts())
def test_planning_again_soon_changes_nothing_more(before: Facts) -> None:
    after = before
    for _ in range(12):
        made = plan(after, NOW)
        assert violations(after, made, NOW) == ()
        if made.empty:
            break
        after = recorded(after, made)
    assert made.empty, made


@settings(max_examples=200, deadline=None)
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
        account_ended(
            one, closed.get(one.id, ()), [of for of in before.stages if of.rollout == one.id]
        )
        if one.state in FINAL
        else account(one, before, NOW)
        for one in before.rollouts
    ]
    assert all(one.lines for one in each)
    assert accounts(before, closed, NOW) == tuple(each)


# --- The checks find what they are there for ------------------------------------------------------

ROW = Wanted("d1", "digits", "champion", 2, "r0", NOW)
MUNICH = device("d1", {"site": "munich"}, {})
BARE = dataclasses.replace(ALONE, wanted=(), members=())


@pytest.mark.parametrize(
    ("known", "bad", "found"),
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
    ],
)
def test_a_plan_that_breaks_a_rule_is_found_out(known: Facts, bad: Plan, found: str) -> None:
    assert any(found in line for line in violations(known, bad, NOW))


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
