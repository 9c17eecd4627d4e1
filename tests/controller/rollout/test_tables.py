"""Every row of the tables: reachable, left by a person, missing ones raise, and none is dead."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import pytest

from controller.rollout.policy import AT_ONCE, Breach, Policy, Stage
from controller.rollout.rollout import (
    ASSIGNING,
    FINAL,
    OPEN,
    RESUME,
    STAGE_RESUME,
    STAGE_TRANSITIONS,
    TRANSITIONS,
    Event,
    IllegalEvent,
    StageEvent,
    StageState,
    State,
    stage_step,
    step,
)
from tests.controller.rollout.fleet_machine import Fleet

Of = TypeVar("Of", State, StageState)
By = TypeVar("By", Event, StageEvent)

PEOPLE = frozenset({Event.PAUSE, Event.RESUME, Event.KEEP, Event.REVERT})
"""What somebody can do whatever devices do."""


def reached(table: Mapping[tuple[Of, By], Of], start: Of, events: Iterable[By]) -> set[Of]:
    found, known = {start}, set(events)
    while True:
        more = {to for (at, event), to in table.items() if at in found and event in known} - found
        if not more:
            return found
        found |= more


def test_every_state_can_be_reached() -> None:
    assert reached(TRANSITIONS, State.RUNNING, Event) == set(State)
    assert reached(STAGE_TRANSITIONS, StageState.PENDING, StageEvent) == set(StageState)


@pytest.mark.parametrize("state", [*sorted(OPEN), State.ROLLING_BACK], ids=str)
def test_people_can_end_whatever_goes_on_in_one_step_however_devices_are(state: State) -> None:
    ends = {TRANSITIONS[state, event] for event in PEOPLE if (state, event) in TRANSITIONS}

    assert ends & FINAL


@pytest.mark.parametrize("state", list(State), ids=str)
def test_cancelling_never_hangs(state: State) -> None:
    assert reached(TRANSITIONS, state, PEOPLE) & FINAL


def test_what_has_ended_stays_ended_but_for_standing_orders() -> None:
    left = {state for state, _ in TRANSITIONS if state in FINAL}

    assert left == FINAL & ASSIGNING == {State.SUCCEEDED}


def test_every_stage_can_pass_again_whatever_it_went_through() -> None:
    for state in StageState:
        assert StageState.PASSED in reached(STAGE_TRANSITIONS, state, StageEvent)


@pytest.mark.parametrize("state", list(State), ids=str)
def test_a_restart_changes_no_state(state: State) -> None:
    assert RESUME[state] is state


@pytest.mark.parametrize("state", list(StageState), ids=str)
def test_a_restart_changes_no_stage(state: StageState) -> None:
    assert STAGE_RESUME[state] is state


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=str)
def test_a_step_of_a_rollout_is_as_its_row_says_or_raises(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert step(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalEvent, match=f"{event} of a rollout that is {state}"):
            step(state, event)


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(StageState, StageEvent)), ids=str
)
def test_a_step_of_a_stage_is_as_its_row_says_or_raises(
    state: StageState, event: StageEvent
) -> None:
    if (state, event) in STAGE_TRANSITIONS:
        assert stage_step(state, event) is STAGE_TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalEvent, match=f"{event} of a stage that is {state}"):
            stage_step(state, event)


# --- No row is dead -------------------------------------------------------------------------------

Script = Callable[[Fleet], object]


def staged(on_breach: Breach, count: int = 2) -> Policy:
    first = Stage(name="canary", count=count, soak_seconds=0, on_breach=on_breach)
    last = Stage(name="all", percent=100, soak_seconds=0, on_breach=on_breach)
    return Policy(stages=(first, last))


def begun(fleet: Fleet, policy: Policy = AT_ONCE) -> str:
    """``digits/2`` over ``digits/1``, which all devices run."""
    for name in ("d1", "d2", "d3", "d4"):
        fleet.enrol(name, "berlin", "1000")
    fleet.start(1, "all", AT_ONCE)
    fleet.settle()
    reports(fleet, "committed")
    fleet.settle()
    fleet.now += 1
    fleet.start(2, "all", policy)
    fleet.settle()
    return "digits-2-1"


def reports(fleet: Fleet, state: str, *names: str) -> None:
    """The devices act on what they were told; all of them, if none is named."""
    wanted = fleet.wanted()
    for name in names or tuple(wanted):
        fleet.report(name, state, "self-test" if state == "failed" else "")


def released(fleet: Fleet, rollout: str) -> list[str]:
    return sorted(name for name, row in fleet.wanted().items() if row.rollout == rollout)


def superseded(fleet: Fleet) -> None:
    fleet.now += 1
    fleet.start(3, "all", AT_ONCE)
    fleet.settle()


def aborted(verb: str) -> Script:
    def script(fleet: Fleet) -> None:
        assert fleet.steer(verb, begun(fleet))

    return script


def breached(fleet: Fleet, on_breach: Breach) -> str:
    rollout = begun(fleet, staged(on_breach))
    reports(fleet, "failed", *released(fleet, rollout))
    fleet.settle()
    return rollout


def late(fleet: Fleet, on_breach: Breach) -> None:
    """The first stage passes; then its devices fail."""
    rollout = begun(fleet, staged(on_breach))
    first = released(fleet, rollout)
    reports(fleet, "committed", *first)
    fleet.settle()
    reports(fleet, "failed", *first)
    fleet.settle()


def paused_then(verb: str) -> Script:
    def script(fleet: Fleet) -> None:
        rollout = begun(fleet)
        assert fleet.steer("pause", rollout)
        assert fleet.steer(verb, rollout)
        fleet.settle()

    return script


def done_then(verb: str) -> Script:
    def script(fleet: Fleet) -> None:
        rollout = begun(fleet)
        reports(fleet, "committed")
        fleet.settle()
        assert fleet.steer(verb, rollout)
        fleet.settle()

    return script


def going_back(fleet: Fleet) -> str:
    rollout = begun(fleet)
    reports(fleet, "committed")
    fleet.turn()
    assert fleet.steer("revert", rollout)
    fleet.settle()
    return rollout


def recalled(*, paused: bool) -> Script:
    def script(fleet: Fleet) -> None:
        rollout = begun(fleet)
        assert not paused or fleet.steer("pause", rollout)
        fleet.recall(2)
        fleet.settle()

    return script


def resumed(on_breach: Breach) -> Script:
    def script(fleet: Fleet) -> None:
        assert fleet.steer("resume", breached(fleet, on_breach))

    return script


def back(fleet: Fleet) -> None:
    going_back(fleet)
    reports(fleet, "committed")
    fleet.settle()


def kept_on_the_way_back(fleet: Fleet) -> None:
    assert fleet.steer("keep", going_back(fleet))


def taken_on_the_way_back(fleet: Fleet) -> None:
    going_back(fleet)
    superseded(fleet)


def taken(*, paused: bool) -> Script:
    def script(fleet: Fleet) -> None:
        rollout = begun(fleet)
        assert not paused or fleet.steer("pause", rollout)
        superseded(fleet)

    return script


S, E, T, V = State, Event, StageState, StageEvent

ROWS: Mapping[tuple[State, Event], Script] = {
    (S.RUNNING, E.PAUSE): paused_then("keep"),
    (S.RUNNING, E.BREACH): lambda fleet: breached(fleet, Breach.PAUSE),
    (S.RUNNING, E.PASSED): done_then("keep"),
    (S.PAUSED, E.PAUSE): paused_then("pause"),
    (S.PAUSED, E.RESUME): paused_then("resume"),
    (S.RUNNING, E.KEEP): aborted("keep"),
    (S.RUNNING, E.REVERT): lambda fleet: breached(fleet, Breach.ROLLBACK_ALL),
    (S.RUNNING, E.TAKEN): taken(paused=False),
    (S.RUNNING, E.WITHDRAWN): recalled(paused=False),
    (S.PAUSED, E.KEEP): paused_then("keep"),
    (S.PAUSED, E.REVERT): paused_then("revert"),
    (S.PAUSED, E.TAKEN): taken(paused=True),
    (S.PAUSED, E.WITHDRAWN): recalled(paused=True),
    (S.ROLLING_BACK, E.BACK): back,
    (S.ROLLING_BACK, E.KEEP): kept_on_the_way_back,
    (S.ROLLING_BACK, E.TAKEN): taken_on_the_way_back,
    (S.SUCCEEDED, E.KEEP): done_then("keep"),
    (S.SUCCEEDED, E.REVERT): done_then("revert"),
}

STAGE_ROWS: Mapping[tuple[StageState, StageEvent], Script] = {
    (T.PENDING, V.TURN): begun,
    (T.HELD, V.BEGIN): begun,
    (T.OPEN, V.PASSED): done_then("keep"),
    (T.OPEN, V.BREACH): lambda fleet: breached(fleet, Breach.PAUSE),
    (T.OPEN, V.ROLLBACK): lambda fleet: breached(fleet, Breach.ROLLBACK_STAGE),
    (T.PASSED, V.BREACH): lambda fleet: late(fleet, Breach.PAUSE),
    (T.PASSED, V.ROLLBACK): lambda fleet: late(fleet, Breach.ROLLBACK_STAGE),
    (T.BREACHED, V.RESUME): resumed(Breach.PAUSE),
    (T.REVERTED, V.RESUME): resumed(Breach.ROLLBACK_STAGE),
}


def test_there_is_a_script_for_every_row() -> None:
    assert ROWS.keys() == TRANSITIONS.keys()
    assert STAGE_ROWS.keys() == STAGE_TRANSITIONS.keys()


@pytest.mark.parametrize("row", list(ROWS), ids=lambda row: f"{row[0]} {row[1]}")
def test_no_row_of_rollouts_is_dead(
    row: tuple[State, Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    ROWS[row](Fleet())
    monkeypatch.delitem(TRANSITIONS, row)

    with pytest.raises((IllegalEvent, AssertionError)):
        ROWS[row](Fleet())


@pytest.mark.parametrize("row", list(STAGE_ROWS), ids=lambda row: f"{row[0]} {row[1]}")
def test_no_row_of_stages_is_dead(
    row: tuple[StageState, StageEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    STAGE_ROWS[row](Fleet())
    monkeypatch.delitem(STAGE_TRANSITIONS, row)

    with pytest.raises(IllegalEvent):
        STAGE_ROWS[row](Fleet())
