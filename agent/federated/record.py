"""What a device remembers of federated runs over restarts: one small value, replaced as a whole.

What is large (the parameters that came, the reply, what rounding left) is in a folder of blobs, by
digest. So a reply and what it leaves for the next one become durable together, or not at all.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from agent.federated.machine import COUNTED, FINAL, RESUME, Event, State, step

TRAIN: Final = "train"
EVALUATE: Final = "evaluate"
"""Flower's message types that a device knows."""

MOST_CARRIES: Final = 4
"""Runs whose rounding errors are kept: those that came last."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The newest task that the device was told.

    Attributes:
        id: of the task.
        phase: ``TRAIN``, ``EVALUATE``, or what it was told that it does not know.
        since: when it came to its state, in Unix seconds.
        resumptions: restarts that found it in a counted state.
        rested: the agent has ended in good order since: the next restart is nobody's doing.
        arrays: SHA-256 of the parameters that it brought.
        reply: SHA-256 of the reply; empty while there is none. It is ``reply_bytes`` long.
        carry: SHA-256 of what the reply leaves for the run's next one; empty if nothing.
        code: why it was declined or given up; empty while it goes well.
        detail: the same in words.
        examples: that it was carried out on.
    """

    id: str
    run: str
    round: int
    phase: str
    model: str
    version: int
    state: State
    since: float
    resumptions: int = 0
    rested: bool = False
    arrays: str = ""
    reply: str = ""
    reply_bytes: int = 0
    carry: str = ""
    code: str = ""
    detail: str = ""
    examples: int = 0


class Carry(msgspec.Struct, frozen=True):
    """What int8 has rounded away of the updates to a run: ``sha256`` names an array record."""

    run: str
    sha256: str


class Rest(msgspec.Struct, frozen=True):
    """From ``since`` on the device takes no task until ``until``; Unix seconds.

    A clock that was set back to before ``since`` ends it: nobody rests for a year.
    """

    since: float = 0.0
    until: float = 0.0

    def left(self, now: float) -> float:
        """Seconds that are left of it; 0 if it is over."""
        return max(0.0, self.until - now) if self.since <= now else 0.0


class Journal(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        task: None before the first.
        carries: by run, what the next update begins with; the newest run stands last.
        trained: when the last training ended whose reply the controller has, in Unix seconds.
        pace: seconds that a step of ``paced``, a model, took last, what it waited for inference
            included; 0 if unknown.
    """

    task: Task | None = None
    carries: tuple[Carry, ...] = ()
    rest: Rest = Rest()
    trained: float = 0.0
    pace: float = 0.0
    paced: str = ""

    def pace_of(self, model: str) -> float:
        """Seconds of a step of that model; 0 if unknown."""
        return self.pace if self.paced == model else 0.0

    def carry_of(self, run: str) -> str:
        """SHA-256 of what the run's next update begins with; empty if with nothing."""
        return next((one.sha256 for one in self.carries if one.run == run), "")

    def blobs(self) -> Iterator[str]:
        """What must be kept. The parameters, too: the next task often brings the same."""
        yield from (one.sha256 for one in self.carries)
        if self.task is not None:
            yield from filter(None, (self.task.arrays, self.task.reply, self.task.carry))


def moved(journal: Journal, event: Event, now: float) -> Journal:
    """The journal after an event of its task, at ``now``; what follows for the rest of it, too.

    Raises:
        IllegalEvent: it can't happen to the task as it stands.
    """
    task = journal.task
    if task is None:
        return journal
    after = step(task.state, event)
    if after is not task.state:
        task = replace(task, state=after, since=now)
    if after is State.TOLD:
        task = replace(task, code="", detail="")
    elif after is State.GIVEN_UP:
        task = replace(task, reply="", reply_bytes=0, carry="")
    elif event is Event.OK and after is State.DONE:
        if task.carry:  # only now: what was rounded away of an update that nobody took is not owed
            journal = replace(journal, carries=_carried(journal, task))
            task = replace(task, carry="")
        if task.phase == TRAIN and not task.code:
            journal = replace(journal, trained=now)
    return replace(journal, task=task)


def _carried(journal: Journal, task: Task) -> tuple[Carry, ...]:
    others = [one for one in journal.carries if one.run != task.run]
    return (*others, Carry(task.run, task.carry))[-MOST_CARRIES:]


def resumed(journal: Journal, now: float) -> Journal:
    """The journal as a restart at ``now`` has it."""
    task = journal.task
    if task is None or task.state in FINAL:
        return journal
    counted = task.state in COUNTED and not task.rested
    return replace(
        journal,
        task=replace(
            task,
            state=RESUME[task.state],
            since=now,
            resumptions=task.resumptions + counted,
            rested=False,
        ),
    )


def at_rest(journal: Journal) -> Journal:
    """The journal when the agent ends because it was asked to."""
    task = journal.task
    if task is None or task.state not in COUNTED:
        return journal
    return replace(journal, task=replace(task, rested=True))
