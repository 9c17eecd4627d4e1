"""What closing a phase makes of its tasks, and what a run needs no more."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from controller.federated.errors import ReplyWithdrawn
from controller.federated.exchange import Outcome
from controller.federated.readiness import StoredCheckpoint
from controller.federated.run import Run, RunState
from controller.federated.run_file import BadRunFile, stored_plan
from controller.federated.task import UNSETTLED, Task, TaskEvent, TaskState, next_state

EVENTS: Final = {
    TaskState.ADMITTED: TaskEvent.ADMIT,
    TaskState.DECLINED: TaskEvent.DECLINE,
    TaskState.REFUSED: TaskEvent.REFUSE,
    TaskState.SURPLUS: TaskEvent.SPARE,
    TaskState.SILENT: TaskEvent.CLOSE,
}


def settled(task: Task, outcome: Outcome) -> Task:
    """The task as it stands once that was decided of it; itself where that changes nothing.

    A reply that came between the decision and its being written down is late.
    """
    decided = TaskState(outcome.state)
    if decided is TaskState.SILENT and task.state is TaskState.REPLIED:
        return replace(task, state=TaskState.LATE)
    after = next_state(task.state, EVENTS[decided])
    if after is None:
        return task
    return replace(task, state=after, code=outcome.code, reason=outcome.reason)


def require_standing(decided: Iterable[tuple[Task, Outcome]]) -> None:
    """Nothing that was refused after it was decided of is among what counts.

    Raises:
        ReplyWithdrawn: something is.
    """
    for task, outcome in decided:
        if outcome.state == TaskState.ADMITTED and task.state is TaskState.REFUSED:
            why = f"step {task.step}: the reply of {task.device!r} counts no more: {task.reason}"
            raise ReplyWithdrawn(why)


def taken_back(tasks: Iterable[Task]) -> Sequence[Task]:
    """Those that were open, closed."""
    return [replace(one, state=TaskState.SILENT) for one in tasks if one.state is TaskState.POSTED]


def disowned(tasks: Iterable[Task], device: str) -> Sequence[Task]:
    """Those of a device that was revoked: whatever it has sent, and nobody has judged, does not count."""
    why = "the device was revoked"
    mine = [one for one in tasks if one.device == device and one.state in UNSETTLED]
    return [replace(one, state=TaskState.REFUSED, code="revoked", reason=why) for one in mine]


def needed(run: Run, unsettled: Iterable[Task], checkpoint: StoredCheckpoint | None) -> set[str]:
    """The blobs that the run still needs: to go on, to be fetched, or as what came of it."""
    found = {run.arrays_sha256}
    if run.state is not RunState.FINISHED and checkpoint is not None:
        found |= {checkpoint.arrays_sha256, checkpoint.state_sha256}
    found |= {reference.sha256 for task in unsettled for reference in task.arrays}
    return found - {""}


def awaits_version(run: Run) -> bool:
    """Whether a version is wanted of the finished run, and neither is there nor known why not."""
    if run.state is not RunState.FINISHED or run.candidate is not None or run.error:
        return False
    try:
        return bool(run.arrays_sha256) and stored_plan(run.file).candidate.registered
    except BadRunFile:
        return True  # of a release that had other keys


def keeps_its_journal(run: Run) -> bool:
    """Whether all replies and arrays stay: a user's own app is brought to where it was by them."""
    return bool(run.app) and run.state not in {RunState.FINISHED, RunState.DISMISSED}
