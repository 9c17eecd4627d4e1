from collections import deque

import pytest

from agent.install.machine import (
    COUNTED,
    FINAL,
    RESUME,
    TRANSITIONS,
    Event,
    IllegalEvent,
    State,
    step,
)

UNDER_WAY = set(State) - FINAL
TRIED = UNDER_WAY - {State.REVERTING}


def reachable(start: State, without: frozenset[State] = frozenset()) -> set[State]:
    """States that a walk from ``start`` comes to, over events and restarts, round ``without``."""
    found, waiting = {start}, deque([start])
    while waiting:
        state = waiting.popleft()
        following = [after for (before, _), after in TRANSITIONS.items() if before is state]
        for after in (*following, RESUME[state]):
            if after not in found and after not in without:
                found.add(after)
                waiting.append(after)
    return found


@pytest.mark.parametrize("state", State)
def test_every_state_says_what_a_restart_means(state: State) -> None:
    again = RESUME[RESUME[state]]

    assert RESUME[again] is again, "further restarts come to rest"
    assert (RESUME[state] in FINAL) == (state in FINAL), (
        "a restart neither ends nor starts anything"
    )


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_reached(state: State) -> None:
    assert state in reachable(State.IDLE)


@pytest.mark.parametrize("state", sorted(TRIED))
def test_every_state_of_a_trial_can_pass_fail_wait_and_be_superseded(state: State) -> None:
    assert step(state, Event.OK) is not state
    assert step(state, Event.BAD) is State.REVERTING
    assert step(state, Event.DEFER) is state
    assert step(state, Event.SUPERSEDED) is State.IDLE


def test_putting_back_can_not_be_stopped() -> None:
    assert step(State.REVERTING, Event.OK) is State.FAILED
    assert step(State.REVERTING, Event.SUPERSEDED) is State.REVERTING
    assert step(State.REVERTING, Event.DEFER) is State.REVERTING
    with pytest.raises(IllegalEvent):
        step(State.REVERTING, Event.BAD)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_from_every_final_state_something_can_be_started(state: State) -> None:
    assert step(state, Event.START) is State.VERIFYING
    assert step(state, Event.SUPERSEDED) is State.IDLE


@pytest.mark.parametrize("guard", [State.VERIFYING, State.CHECKING, State.SELF_TEST])
@pytest.mark.parametrize("goal", [State.SWITCHING, State.PROBATION, State.COMMITTED])
def test_nothing_answers_that_was_not_verified_checked_and_tested(
    guard: State, goal: State
) -> None:
    assert goal not in reachable(State.IDLE, frozenset({guard}))


def test_a_restart_before_the_switch_never_skips_the_self_test() -> None:
    for state in UNDER_WAY - {State.PROBATION, State.REVERTING}:
        resumed = RESUME[state]
        around = reachable(resumed, frozenset({State.SELF_TEST}))
        assert resumed is State.SELF_TEST or State.PROBATION not in around


def test_only_probation_leads_to_committed() -> None:
    assert [before for before, after in TRANSITIONS.items() if after is State.COMMITTED] == [
        (State.PROBATION, Event.OK)
    ]


@pytest.mark.parametrize("state", sorted({*TRIED, State.COMMITTED}))
def test_everything_that_goes_wrong_ends_in_failed(state: State) -> None:
    state = step(state, Event.BAD)
    ways = {after for (before, _), after in TRANSITIONS.items() if before is state}

    assert ways == {State.REVERTING, State.FAILED}


@pytest.mark.parametrize("state", State)
def test_there_is_no_dead_end(state: State) -> None:
    assert reachable(state) & FINAL


def test_where_the_versions_own_code_runs_restarts_are_counted() -> None:
    assert {State.SELF_TEST, State.PROBATION, State.SWITCHING, State.SHADOW} == COUNTED
    assert not COUNTED & FINAL


def test_an_event_without_a_row_is_a_bug() -> None:
    with pytest.raises(IllegalEvent, match="ok in idle"):
        step(State.IDLE, Event.OK)
