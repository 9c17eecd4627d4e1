"""A federated task on a device: which states there are, what leads where, what a restart means.

Rules:

1. Everything that decides what comes next stands in this file; ``loop.py`` carries it out.
2. The state is written before it is acted on, so a restart finds what was being tried.
3. A reply is durable before any of it is sent, and a task that has one is never carried out again:
   no two replies to a task differ. A decline is a reply, too.
4. Until there is a reply, the newest order decides: without the task in it, there is nothing to do.
5. Once there is one, only the controller's receipt decides: an order that says that nothing is to be
   done may mean that all of the reply has come.
6. A deferral (no link) stays where it is.
7. A missing row is a bug, never weather: ``step`` raises.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where the task stands."""

    IDLE = "idle"  # told at a time that a restart has ended: it is told again if it is still wanted
    TOLD = "told"  # is the device eligible, and can it do what is asked?
    FETCHING = "fetching"  # the parameters come in; goes on where it stopped
    TRAINING = "training"  # or evaluating: the trainer is at it
    SENDING = "sending"  # the reply is durable, and goes up in pieces
    DONE = "done"  # the controller has all of it
    GIVEN_UP = "given-up"  # nothing is owed, and what was done for it is forgotten


class Event(StrEnum):
    """What can happen to it."""

    TELL = "tell"  # an order names the task
    OK = "ok"  # the state's work is done
    DECLINE = "decline"  # a reply that says why not is durable
    DEFER = "defer"  # not now
    WITHDRAW = "withdraw"  # an order names another task, or none; or the time is up
    REFUSE = "refuse"  # the controller does not want the reply


S, E = State, Event

_WORK: Final = (S.TOLD, S.FETCHING, S.TRAINING)

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (S.IDLE, E.TELL): S.TOLD,
    (S.IDLE, E.WITHDRAW): S.GIVEN_UP,
    (S.TOLD, E.OK): S.FETCHING,
    (S.FETCHING, E.OK): S.TRAINING,
    (S.TRAINING, E.OK): S.SENDING,
    (S.SENDING, E.OK): S.DONE,
    (S.SENDING, E.REFUSE): S.GIVEN_UP,
    (S.SENDING, E.DEFER): S.SENDING,
    (S.SENDING, E.TELL): S.SENDING,
    (S.SENDING, E.WITHDRAW): S.SENDING,  # rule 5
    # Whoever tells it again has lost the reply, which is sent again as long as it is there.
    (S.DONE, E.TELL): S.SENDING,
    (S.DONE, E.WITHDRAW): S.DONE,
    (S.GIVEN_UP, E.TELL): S.TOLD,
    (S.GIVEN_UP, E.WITHDRAW): S.GIVEN_UP,
    **{(state, E.TELL): state for state in _WORK},
    **{(state, E.DEFER): state for state in _WORK},
    **{(state, E.DECLINE): S.SENDING for state in _WORK},
    **{(state, E.WITHDRAW): S.GIVEN_UP for state in _WORK},
}

RESUME: Final[dict[State, State]] = {
    S.IDLE: S.IDLE,
    S.TOLD: S.IDLE,  # how much time is left went with the process; the next link tells
    S.FETCHING: S.IDLE,  # what has come stays
    S.TRAINING: S.IDLE,  # training again gives the same; the attempt is counted
    S.SENDING: S.SENDING,
    S.DONE: S.DONE,
    S.GIVEN_UP: S.GIVEN_UP,
}
"""What a restart in each state means."""

COUNTED: Final = frozenset({S.TRAINING})
"""Where a restart may be the task's doing, as when it takes all of the memory."""

MAX_RESUMPTIONS: Final = 2
"""A task that a restart has found there more often is declined."""

REPLIED: Final = frozenset({S.SENDING, S.DONE})
"""There is a reply."""

FINAL: Final = frozenset({S.DONE, S.GIVEN_UP})
"""Nothing is owed."""


class IllegalEvent(Exception):
    """An event that the table has no row for. A bug."""


def step(state: State, event: Event) -> State:
    """The state that ``event`` leads to.

    Raises:
        IllegalEvent: there is no such row.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalEvent(f"{event} in {state}") from None
