"""Facts of any kind, as Hypothesis draws them."""

import dataclasses
import math

from hypothesis import strategies as st

from controller.fleet.device import DeviceStatus
from controller.registry import version as registry
from controller.rollout.draft import Plan
from controller.rollout.explain import told
from controller.rollout.facts import Facts, place
from controller.rollout.policy import AT_ONCE, Breach, Budget, Pace, Policy, Proof, Stage
from controller.rollout.rollout import (
    CONTROL,
    FINAL,
    Member,
    Rollout,
    StageRecord,
    StageState,
    State,
    Wanted,
)
from tests.controller.rollout.few_facts import (
    SELECTORS,
    SITES,
    STATES,
    release,
    rollout,
    slot,
)
from tests.controller.rollout.world import LOADED, START, device

devices = st.builds(
    lambda name, site, gpu, memory, connected, revoked: dataclasses.replace(
        device(name, {"site": site, **gpu}, memory),
        connected=connected,
        connected_since=START if connected else 0.0,
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
    lambda name, version, running, state, generation, odd, soaked, loaded: slot(
        name,
        version,
        state,
        running=running,
        generation=generation,
        soaked=soaked,
        model_sha256=loaded,
        **({"manifest_sha256": "f" * 64} if odd else {}),
    ),
    st.sampled_from(["d1", "d2", "d3", "d4", "d5"]),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(STATES),
    st.integers(1, 4),
    st.integers(0, 5).map(lambda roll: roll == 0),
    st.sampled_from([0, 59, 60]),
    st.sampled_from([LOADED] * 4 + ["", "f" * 64]),
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


def shape(made: Plan) -> tuple[object, ...]:
    """The plan and everything that it says; times to the millisecond."""
    again_at = made.again_at if math.isinf(made.again_at) else round(made.again_at, 3)
    accounts = [
        (told(one), one.standings, one.census, one.stages, one.held, one.incompatible, one.taken)
        for one in made.progress
    ]
    rows = made.assign, made.restore, made.remove, made.forget
    return *rows, made.members, made.stages, made.rollouts, accounts, made.wishes, again_at


def recorded(before: Facts, made: Plan) -> Facts:
    rows = {place(row): row for row in before.wanted}
    for row in made.remove:
        del rows[place(row)]
    rows |= {place(row): row for row in (*made.assign, *made.restore)}
    rollouts = {one.id: one for one in (*before.rollouts, *made.rollouts)}
    members = {
        (one.rollout, one.device): one
        for one in (*before.members, *made.members)
        if one.rollout not in made.forget
    }
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
