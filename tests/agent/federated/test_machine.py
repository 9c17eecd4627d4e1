"""A walk over the tables of a task on a device."""

from collections import deque

import pytest
from msgspec.structs import replace

from agent.federated.machine import (
    COUNTED,
    FINAL,
    REPLIED,
    RESUME,
    TRANSITIONS,
    Event,
    IllegalEvent,
    State,
    step,
)
from agent.federated.record import (
    MOST_CARRIES,
    TRAIN,
    Carry,
    Journal,
    Rest,
    Task,
    at_rest,
    moved,
    resumed,
)

WORK = set(State) - FINAL - REPLIED - {State.IDLE}
TASK = Task(
    id="t", run="r", round=1, phase=TRAIN, model="m", version=1, state=State.TOLD, since=1.0
)


def reachable(start: State) -> set[State]:
    found, waiting = {start}, deque([start])
    while waiting:
        state = waiting.popleft()
        following = [after for (before, _), after in TRANSITIONS.items() if before is state]
        for after in (*following, RESUME[state]):
            if after not in found:
                found.add(after)
                waiting.append(after)
    return found


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_reached_and_says_what_a_restart_means(state: State) -> None:
    assert state in reachable(State.TOLD)
    assert RESUME[RESUME[state]] is RESUME[state]


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_told_and_withdrawn(state: State) -> None:
    assert step(state, Event.TELL) not in {State.IDLE, State.GIVEN_UP}
    assert step(state, Event.WITHDRAW) in {State.GIVEN_UP, State.SENDING, State.DONE}


@pytest.mark.parametrize("state", sorted(WORK))
def test_all_work_can_pass_wait_and_be_declined(state: State) -> None:
    assert step(state, Event.OK) is not state
    assert step(state, Event.DEFER) is state
    assert step(state, Event.DECLINE) is State.SENDING


@pytest.mark.parametrize("state", sorted(REPLIED))
def test_what_has_a_reply_is_never_carried_out_again(state: State) -> None:
    """Not by any event, and not by a restart; but for what the controller has refused."""
    kept = {after for (before, event), after in TRANSITIONS.items() if before is state} - {
        State.GIVEN_UP
    }

    assert {*kept, RESUME[state]} <= REPLIED


def test_only_a_refusal_ends_the_sending_without_success() -> None:
    ends = {
        event
        for (before, event), after in TRANSITIONS.items()
        if before is State.SENDING and after is not State.SENDING
    }

    assert ends == {Event.OK, Event.REFUSE}


def test_a_row_that_is_missing_is_a_bug() -> None:
    with pytest.raises(IllegalEvent):
        step(State.DONE, Event.DECLINE)


def test_what_rounding_left_counts_once_the_controller_has_the_reply() -> None:
    sending = Journal(
        task=replace(TASK, state=State.SENDING, reply="a", reply_bytes=3, carry="new"),
        carries=(Carry("r", "old"), Carry("other", "x")),
    )

    done = moved(sending, Event.OK, 7.0)
    refused = moved(sending, Event.REFUSE, 7.0)

    assert done.carries == (Carry("other", "x"), Carry("r", "new"))
    assert (done.carry_of("r"), done.trained) == ("new", 7.0)
    assert (refused.carry_of("r"), refused.trained) == ("old", 0.0)
    assert set(refused.blobs()) == {"old", "x"}
    assert moved(moved(done, Event.TELL, 8.0), Event.OK, 9.0).carries == done.carries


def test_a_decline_is_no_training() -> None:
    declined = Journal(task=replace(TASK, state=State.SENDING, code="on-battery"))

    assert moved(declined, Event.OK, 7.0).trained == 0.0


def test_the_carries_of_old_runs_are_let_go() -> None:
    journal = Journal()
    for run in range(MOST_CARRIES + 2):
        task = replace(TASK, run=f"r{run}", state=State.SENDING, carry=f"c{run}")
        journal = moved(replace(journal, task=task), Event.OK, 1.0)

    assert [one.run for one in journal.carries] == ["r2", "r3", "r4", "r5"]


@pytest.mark.parametrize("state", State)
def test_a_restart_is_counted_where_the_task_may_have_caused_it(state: State) -> None:
    journal = Journal(task=replace(TASK, state=state))

    crashed, ended = resumed(journal, 5.0).task, resumed(at_rest(journal), 5.0).task

    assert crashed is not None
    assert ended is not None
    assert crashed.resumptions == (state in COUNTED)
    assert (ended.resumptions, ended.rested) == (0, False)
    assert crashed.state is ended.state is RESUME[state]


def test_without_a_task_nothing_happens() -> None:
    assert moved(Journal(), Event.WITHDRAW, 1.0) == resumed(Journal(), 1.0) == Journal()


def test_a_rest_ends_in_time_and_when_the_clock_was_set_back() -> None:
    rest = Rest(100.0, 160.0)

    assert [rest.left(now) for now in (100.0, 130.0, 160.0, 999.0, 99.0)] == [60, 30, 0, 0, 0]
