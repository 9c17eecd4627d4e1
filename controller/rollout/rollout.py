"""A rollout, its stages and what it wants: frozen values, and which state leads where.

Rules:

1. Everything that decides what may follow stands in this file; ``plan.py`` says what happens.
2. A missing row is a bug, never weather: ``step`` and ``stage_step`` raise.
3. Nothing here waits for a device: whoever pauses, resumes, aborts or supersedes is never refused
   because devices are away.
4. All of it is durable, so a restart goes on exactly where it was: ``RESUME`` changes nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.rollout.policy import AT_ONCE, Policy

CONTROL: Final = -1
"""Where a stage's number is asked for: the control group."""


class State(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"  # by a person or by a breach; nothing more is released
    ROLLING_BACK = "rolling-back"  # its devices are told to run again what they ran before
    SUCCEEDED = "succeeded"  # every stage has passed
    ROLLED_BACK = "rolled-back"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"  # a newer rollout of the model has taken all its devices


class Event(StrEnum):
    """What can happen to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    BREACH = "breach"  # of a stage whose policy says pause or rollback-stage
    KEEP = "keep"  # aborted; its devices keep what they have
    REVERT = "revert"  # aborted, or breached where the policy says rollback-all
    PASSED = "passed"  # the last stage has
    BACK = "back"  # every device has proven that it is back, or never will
    TAKEN = "taken"  # by newer rollouts
    WITHDRAWN = "withdrawn"  # the version is no longer published


S, E = State, Event

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (S.RUNNING, E.PAUSE): S.PAUSED,
    (S.RUNNING, E.BREACH): S.PAUSED,
    (S.RUNNING, E.PASSED): S.SUCCEEDED,
    (S.PAUSED, E.PAUSE): S.PAUSED,
    (S.PAUSED, E.RESUME): S.RUNNING,
    **{
        (state, event): after
        for state in (S.RUNNING, S.PAUSED)
        for event, after in (
            (E.KEEP, S.ABORTED),
            (E.REVERT, S.ROLLING_BACK),
            (E.TAKEN, S.SUPERSEDED),
            (E.WITHDRAWN, S.ABORTED),
        )
    },
    (S.ROLLING_BACK, E.BACK): S.ROLLED_BACK,
    (S.ROLLING_BACK, E.KEEP): S.ABORTED,  # nobody waits for those that are not back yet
    (S.ROLLING_BACK, E.TAKEN): S.SUPERSEDED,
    # A rollout that has succeeded is a standing order for devices that come to match later.
    (S.SUCCEEDED, E.KEEP): S.ABORTED,
    (S.SUCCEEDED, E.REVERT): S.ROLLING_BACK,
}

RESUME: Final[dict[State, State]] = {state: state for state in State}
"""What a restart of the controller means."""

FINAL: Final = frozenset({S.SUCCEEDED, S.ROLLED_BACK, S.ABORTED, S.SUPERSEDED})
OPEN: Final = frozenset({S.RUNNING, S.PAUSED})
"""It has devices in its stages, and whom it matches belongs to it."""
ASSIGNING: Final = frozenset({S.RUNNING, S.SUCCEEDED})


class StageState(StrEnum):
    """Where a stage stands."""

    PENDING = "pending"  # a stage before it has not passed
    HELD = "held"  # it is its turn: waits for its start time or for approval
    OPEN = "open"  # devices are released, install, soak and are judged
    BREACHED = "breached"
    REVERTED = "reverted"  # breached, and its devices were put back
    PASSED = "passed"


class StageEvent(StrEnum):
    """What can happen to a stage."""

    TURN = "turn"  # the stage before it has passed, or there is none
    BEGIN = "begin"  # its time has come and who must approve has
    BREACH = "breach"
    ROLLBACK = "rollback"  # a breach, where the policy says rollback-stage
    RESUME = "resume"  # what was seen so far is acknowledged
    PASSED = "passed"


T, V = StageState, StageEvent

STAGE_TRANSITIONS: Final[dict[tuple[StageState, StageEvent], StageState]] = {
    (T.PENDING, V.TURN): T.HELD,
    (T.HELD, V.BEGIN): T.OPEN,
    (T.OPEN, V.PASSED): T.PASSED,
    (T.OPEN, V.BREACH): T.BREACHED,
    (T.OPEN, V.ROLLBACK): T.REVERTED,
    # Late failures of an earlier stage count.
    (T.PASSED, V.BREACH): T.BREACHED,
    (T.PASSED, V.ROLLBACK): T.REVERTED,
    (T.BREACHED, V.RESUME): T.OPEN,
    (T.REVERTED, V.RESUME): T.OPEN,  # its devices are asked anew
}

STAGE_RESUME: Final[dict[StageState, StageState]] = {state: state for state in StageState}
"""What a restart of the controller means."""

JUDGED: Final = frozenset({T.OPEN, T.PASSED})
"""Stages whose devices can break a budget."""


class IllegalEvent(Exception):
    """An event that the table has no row for. A bug."""


def step(state: State, event: Event) -> State:
    """The state of a rollout that ``event`` leads to.

    Raises:
        IllegalEvent: there is no such row.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalEvent(f"{event} of a rollout that is {state}") from None


def stage_step(state: StageState, event: StageEvent) -> StageState:
    """The state of a stage that ``event`` leads to.

    Raises:
        IllegalEvent: there is no such row.
    """
    try:
        return STAGE_TRANSITIONS[state, event]
    except KeyError:
        raise IllegalEvent(f"{event} of a stage that is {state}") from None


@dataclass(frozen=True, slots=True)
class Rollout:
    """Moves the devices that ``selector`` matches to one version, stage by stage.

    Attributes:
        reason: why it is paused, rolled back or ended, for a person.
        fleet: the fleet's file that asked for it; empty if a person did.
    """

    id: str
    model: str
    version: int
    selector: str
    state: State
    created_at: float
    created_by: str
    slot: str = "champion"
    ended_at: float = 0.0
    policy: Policy = AT_ONCE
    reason: str = ""
    fleet: str = ""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What has become of one stage. Times are Unix seconds; 0 is never.

    Attributes:
        number: from 0, as in the policy.
        size: how many devices it and those before it may have by now; it grows until it is proven.
        accepted_failed, accepted_unreachable: how many such devices a resume has accepted.
        broken_gates: names of the gates that the stage has breached.
        accepted_gates: those whose breach a resume has accepted.
        reason: of the state, for a person.
    """

    rollout: str
    number: int
    state: StageState = StageState.PENDING
    size: int = 0
    opened_at: float = 0.0
    passed_at: float = 0.0
    approved_by: str = ""
    accepted_failed: int = 0
    accepted_unreachable: int = 0
    broken_gates: tuple[str, ...] = ()
    accepted_gates: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A device that a rollout has released, or holds back.

    Attributes:
        stage: its number; ``CONTROL`` is held back.
        released_at: Unix seconds.
        online_at: the device's ``online_seconds`` when it was released.
        before: the version that the place ran or was to run then; 0 if none.
        proven_at: since when it has proven that it runs the version; 0 while it has not. The start of
            its soak for people; its reports say when that ends.
        reverted: it was put back.
        attempt: how often people have asked for it.
        deferred_at: the device's ``online_seconds`` when it began to wait on purpose; None if it
            does not.
    """

    rollout: str
    device: str
    stage: int
    released_at: float = 0.0
    online_at: float = 0.0
    before: int = 0
    proven_at: float = 0.0
    reverted: bool = False
    attempt: int = 1
    deferred_at: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one slot of one device shall run, and which rollout says so.

    ``attempt`` counts how often people have asked for it, ``soak_seconds`` is for how long it must
    answer for the device to say so.
    """

    device: str
    model: str
    slot: str
    version: int
    rollout: str
    assigned_at: float
    attempt: int = 1
    soak_seconds: int = 0


@dataclass(frozen=True, slots=True)
class SignedDirective:
    """The newest directive of a device, as sent."""

    device: str
    generation: int
    envelope: bytes
    issued_at: float
