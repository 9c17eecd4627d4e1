"""Installing a version: which states there are, what leads where, and what a restart means.

Rules:

1. Everything that decides what comes next stands in this file; ``loop.py`` carries it out.
2. The state is written before it is acted on, so a restart finds what was being tried.
3. Nothing answers requests with a version that has not passed SELF_TEST.
4. The switch is one transaction. Past it, only PROBATION decides: commit, or go back.
5. A recall is BAD at any time, for a version that was committed long ago, too.
6. A deferral (window, battery, no link) stays where it is and is no failure.
7. A missing row is a bug, never weather: ``step`` raises.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where an install stands."""

    IDLE = "idle"
    VERIFYING = "verifying"  # directive and image metadata agree, the version may run
    PREFLIGHT = "preflight"  # the device has what the version needs
    FETCHING = "fetching"  # bytes come in; goes on where it stopped
    CHECKING = "checking"  # every file is the one that was signed for
    STAGED = "staged"  # all files are in place and durable
    SELF_TEST = "self-test"  # golden inputs, in a process of its own
    SHADOW = "shadow"  # beside the champion on live inputs, where the policy asks for it
    WAITING = "waiting"  # for the maintenance window
    SWITCHING = "switching"  # one transaction: the slot now points at the version
    PROBATION = "probation"  # answers requests; the version before it is kept warm
    COMMITTED = "committed"  # the version is the slot's last known good one
    REVERTING = "reverting"  # the slot goes back to its last known good version
    FAILED = "failed"  # typed reason recorded, digest quarantined


class Event(StrEnum):
    """What can happen to an install."""

    START = "start"  # a directive wants this version
    OK = "ok"  # the state's work is done
    BAD = "bad"  # it can never be done with these bytes on this device
    DEFER = "defer"  # not now
    SUPERSEDED = "superseded"  # a newer directive wants something else here


S, E = State, Event

_WORK: Final = (
    S.VERIFYING,
    S.PREFLIGHT,
    S.FETCHING,
    S.CHECKING,
    S.STAGED,
    S.SELF_TEST,
    S.SHADOW,
    S.WAITING,
    S.SWITCHING,
)

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (S.IDLE, E.START): S.VERIFYING,
    (S.COMMITTED, E.START): S.VERIFYING,
    (S.FAILED, E.START): S.VERIFYING,
    (S.VERIFYING, E.OK): S.PREFLIGHT,
    (S.PREFLIGHT, E.OK): S.FETCHING,
    (S.FETCHING, E.OK): S.CHECKING,
    (S.CHECKING, E.OK): S.STAGED,
    (S.STAGED, E.OK): S.SELF_TEST,
    (S.SELF_TEST, E.OK): S.SHADOW,
    (S.SHADOW, E.OK): S.WAITING,
    (S.WAITING, E.OK): S.SWITCHING,
    (S.SWITCHING, E.OK): S.PROBATION,
    (S.PROBATION, E.OK): S.COMMITTED,
    (S.REVERTING, E.OK): S.FAILED,
    **{(state, E.BAD): S.REVERTING for state in (*_WORK, S.PROBATION, S.COMMITTED)},
    **{(state, E.DEFER): state for state in (*_WORK, S.PROBATION)},
    **{(state, E.SUPERSEDED): S.IDLE for state in _WORK},
    # The unproven version goes on answering until its successor does; the last known good one
    # stays what a revert goes back to.
    (S.PROBATION, E.SUPERSEDED): S.IDLE,
    # Too late to be spared: the slot is being put back, and then it failed.
    (S.REVERTING, E.SUPERSEDED): S.REVERTING,
    (S.REVERTING, E.DEFER): S.REVERTING,
    (S.IDLE, E.SUPERSEDED): S.IDLE,
    (S.COMMITTED, E.SUPERSEDED): S.IDLE,
    (S.FAILED, E.SUPERSEDED): S.IDLE,
}

RESUME: Final[dict[State, State]] = {
    S.IDLE: S.IDLE,
    S.VERIFYING: S.VERIFYING,
    S.PREFLIGHT: S.PREFLIGHT,  # what the device has may have changed meanwhile
    S.FETCHING: S.FETCHING,  # partial files are content-addressed: go on
    S.CHECKING: S.CHECKING,
    S.STAGED: S.CHECKING,  # power may have gone before the last file was durable
    S.SELF_TEST: S.CHECKING,  # likewise; the attempt is counted
    S.SHADOW: S.SELF_TEST,  # the candidate is no longer in memory
    S.WAITING: S.SELF_TEST,
    S.SWITCHING: S.SELF_TEST,  # the transaction would have said PROBATION
    S.PROBATION: S.PROBATION,  # starts over, and the attempt is counted
    S.COMMITTED: S.COMMITTED,
    S.REVERTING: S.REVERTING,
    S.FAILED: S.FAILED,
}
"""What a restart in each state means."""

COUNTED: Final = frozenset({S.SELF_TEST, S.SHADOW, S.SWITCHING, S.PROBATION})
"""Where the version's own code was running: a restart there may be its doing."""

MAX_RESUMPTIONS: Final = 3
"""A restart in a counted state more often than this is a crash loop, and fails the install."""

MAX_TRIES: Final = 4
"""So many self-tests may be too slow, or out of time, before that is held against the version."""

FINAL: Final = frozenset({S.IDLE, S.COMMITTED, S.FAILED})
"""Nothing is under way."""


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
