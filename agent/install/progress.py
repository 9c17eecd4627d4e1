"""How an install moves: a new record for every event, always by the table."""

from msgspec.structs import replace

from agent.install.machine import FINAL, Event, State, step
from agent.install.outcome import INCONCLUSIVE, Outcome
from agent.install.record import Install
from protos.documents import Assignment


def begun(
    previous: Install | None, assignment: Assignment, generation: int, now: float
) -> Install | None:
    """A fresh attempt at the assignment in place of ``previous``.

    None while ``previous`` is being put back: it must end first.
    """
    state = State.IDLE if previous is None else previous.state
    if state not in FINAL:
        state = step(state, Event.SUPERSEDED)
    if state not in FINAL:
        return None
    return Install(
        model=assignment.model,
        slot=assignment.slot,
        version=assignment.version,
        generation=generation,
        target=assignment.target,
        sha256=assignment.sha256,
        length=assignment.length,
        state=step(state, Event.START),
        since=now,
        rollout=assignment.rollout,
        attempt=assignment.attempt,
        conditions=assignment.conditions,
    )


def renewed_by(assignment: Assignment | Install, generation: int, install: Install) -> Install:
    """The install as a newer directive wants it, which asks for the same version."""
    return replace(
        install,
        generation=generation,
        rollout=assignment.rollout,
        attempt=assignment.attempt,
        conditions=assignment.conditions,
    )


def passed(install: Install, now: float) -> Install:
    """The state's work is done."""
    return replace(
        install,
        state=step(install.state, Event.OK),
        since=now,
        not_before=0.0,
        # Past REVERTING the reason of the failure is what people need.
        code=install.code if install.state is State.REVERTING else "",
        detail=install.detail if install.state is State.REVERTING else "",
    )


def refused(install: Install, outcome: Outcome, now: float) -> Install:
    """It can never be done."""
    return replace(
        install,
        state=step(install.state, Event.BAD),
        since=now,
        not_before=0.0,
        code=outcome.code,
        detail=outcome.detail,
    )


def deferred(install: Install, outcome: Outcome, until: float) -> Install:
    """It stays where it is until then. While a slot is put back, the failure's reason stands."""
    state = step(install.state, Event.DEFER)
    if install.state is State.REVERTING:
        return replace(install, not_before=until)
    return replace(
        install,
        state=state,
        not_before=until,
        tries=install.tries + (outcome.code in INCONCLUSIVE),
        code=outcome.code,
        detail=outcome.detail,
    )
