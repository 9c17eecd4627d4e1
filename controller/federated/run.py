"""A federated run: what it is, how it may stand, and what a restart means.

Rules:

1. A run's state is written before it is acted on.
2. A coordinator is started for every run that is RUNNING and has none: a run that was cut off goes
   on from its newest checkpoint, with the tasks that stand.
3. What is at its end stays there; only STOPPED and FAILED runs can be resumed. A FINISHED one of which
   no version could be made stays finished, and its version is tried again.
4. A missing row is a bug, never weather: ``step`` raises.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.errors import Conflict


class RunState(StrEnum):
    """Where a run stands."""

    PROPOSED = "proposed"  # by the controller, with its reasons: somebody may start it
    RUNNING = "running"  # a coordinator works at it, or is about to
    STOPPING = "stopping"  # somebody has asked it to end: the round under way is given up
    STOPPED = "stopped"
    FAILED = "failed"  # with a reason
    FINISHED = "finished"  # all rounds are done, and what came of them is registered
    DISMISSED = "dismissed"  # a proposal that nobody wants


class RunEvent(StrEnum):
    """What can happen to a run."""

    START = "start"
    STOP = "stop"
    RESUME = "resume"
    DISMISS = "dismiss"
    ENDED = "ended"  # its coordinator has ended because it was asked to
    FAILED = "failed"
    FINISHED = "finished"


S, E = RunState, RunEvent

TRANSITIONS: Final[dict[tuple[RunState, RunEvent], RunState]] = {
    (S.PROPOSED, E.START): S.RUNNING,
    (S.PROPOSED, E.DISMISS): S.DISMISSED,
    (S.RUNNING, E.STOP): S.STOPPING,
    (S.RUNNING, E.FAILED): S.FAILED,
    (S.RUNNING, E.FINISHED): S.FINISHED,
    (S.STOPPING, E.ENDED): S.STOPPED,
    (S.STOPPING, E.FAILED): S.STOPPED,
    (S.STOPPING, E.FINISHED): S.FINISHED,  # it was done before it was told
    (S.STOPPED, E.RESUME): S.RUNNING,
    (S.FAILED, E.RESUME): S.RUNNING,
}

COORDINATED: Final = {
    S.PROPOSED: False,
    S.RUNNING: True,
    S.STOPPING: False,
    S.STOPPED: False,
    S.FAILED: False,
    S.FINISHED: False,
    S.DISMISSED: False,
}
"""Whether a controller that starts, or loses a coordinator, starts one."""

_DONE: Final = {
    RunEvent.START: "started",
    RunEvent.STOP: "stopped",
    RunEvent.RESUME: "resumed",
    RunEvent.DISMISS: "dismissed",
}

AT_END: Final = frozenset({S.STOPPED, S.FAILED, S.FINISHED, S.DISMISSED})


def step(run: str, state: RunState, event: RunEvent) -> RunState:
    """Where ``event`` leads.

    Raises:
        Conflict: it can't happen in that state.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        said = _DONE.get(event, event.value)
        raise Conflict(
            f"{run} is {state}: it can't be {said}", f"`muster federated show {run}` tells of it."
        )
    return after


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. Times are Unix milliseconds; 0 where there is none yet.

    Attributes:
        id: ``digits-r1``: the model's runs are numbered.
        number: Flower's run id, uint64, from ``id``.
        model: whose parameters are trained.
        version: the parent; what devices run while it goes on.
        manifest_sha256: the parent's.
        file: the run file, TOML, as it was given.
        app: ``module:app`` of a user's own ServerApp; empty for the strategies by name.
        reasons: why it was proposed or started, in words.
        incident: what it belongs to; empty if to none.
        rounds: how many it shall have.
        round: how many are done.
        arrays_sha256: the final parameters; empty until it has finished.
        candidate: the version that came of it; None while there is none.
        error: why it failed; empty if it did not.
    """

    id: str
    number: int
    model: str
    version: int
    manifest_sha256: str
    file: str
    state: RunState
    rounds: int
    created_ms: int
    created_by: str
    app: str = ""
    reasons: tuple[str, ...] = ()
    incident: str = ""
    round: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    arrays_sha256: str = ""
    candidate: int | None = None
    error: str = ""
