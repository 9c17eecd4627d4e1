"""The seam between a run's coordinator and the fleet: what it asks, and what is durable.

A coordinator knows nothing else of the controller. Calls block: Flower's strategies are synchronous.
Everything that is written here survives both processes; what is written twice is written once, so a
coordinator that was killed asks for the same things again and goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.federated.run import Run
from controller.federated.task import Phase, Task


@dataclass(frozen=True, slots=True)
class Node:
    """A device that runs the run's parent version with a train step.

    Attributes:
        id: as Flower names it.
        device: who it is.
        connected: whether it has a link now.
        eligible: whether it has said that it would train now.
        reason: why not: a code; empty if it would.
        examples: in the part that is trained on; 0 if it did not tell.
        away_ms: since when it has had no link, Unix milliseconds; 0 while it has one.
    """

    id: int
    device: str
    connected: bool
    eligible: bool
    reason: str = ""
    examples: int = 0
    away_ms: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a coordinator has decided of one task when it closed the phase.

    Attributes:
        task: its id.
        state: ADMITTED, DECLINED, REFUSED, SURPLUS or SILENT of ``task.TaskState``.
        code: why it does not count; empty if it does.
        reason: the same in words.
    """

    task: str
    state: str
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A phase that was closed: what ``muster federated show`` and ``watch`` tell of it.

    Attributes:
        step: number of the phase in its run.
        round: Flower's ``server-round``.
        phase: what was asked.
        eligible: nodes that would have taken part.
        selected: nodes that were asked.
        admitted, declined, refused, surplus, silent: of the selected; they add up.
        reasons: how many by code, of those declined and refused, and of the silent that had no link.
        metrics: aggregated over the admitted replies.
        bytes_down: messages and arrays, as every asked device was to fetch them.
        bytes_up: replies, as they came.
        began_ms: Unix milliseconds.
        ended_ms: Unix milliseconds.
        why: what closed it, in words: everybody answered, quorum, deadline.
        late: replies that came after it was closed.
    """

    step: int
    round: int
    phase: Phase
    eligible: int
    selected: int
    admitted: int
    declined: int
    refused: int
    surplus: int
    silent: int
    reasons: Mapping[str, int]
    metrics: Mapping[str, float]
    bytes_down: int
    bytes_up: int
    began_ms: int
    ended_ms: int
    why: str
    late: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a coordinator needs to go on after a phase.

    Attributes:
        step: the last phase that is in it.
        round: the last round that is in it.
        arrays_sha256: the global parameters, a serialised ``muster.flower.v1.ArrayRecord``.
        state: the strategy's own, and the driver's; opaque to all others.
    """

    step: int
    round: int
    arrays_sha256: str
    state: bytes


class Exchange(Protocol):
    """One run's way to the fleet. Raises ``StoreError`` where the store can't be had."""

    @property
    def run(self) -> Run:
        """As it stands now; its state says whether the coordinator shall end."""
        ...

    def nodes(self) -> Sequence[Node]:
        """The run's devices, by node id: those that its selector matches and that run its parent.

        To ask again costs as much as has changed: a coordinator that waits asks often.
        """
        ...

    def put_arrays(self, record: bytes) -> str:
        """Stores an array record for devices to fetch; returns its SHA-256. Kept as long as named."""
        ...

    def arrays(self, sha256: str) -> bytes:
        """What ``put_arrays`` stored. Raises ``NotFound``."""
        ...

    def post(self, tasks: Sequence[Task]) -> None:
        """Makes the tasks of one phase durable and has their devices told. Those that are there stay."""
        ...

    def tasks(self, step: int) -> Sequence[Task]:
        """Those of the phase, as they stand, by node id."""
        ...

    def reply(self, task: str) -> bytes:
        """The stored reply, not yet checked: a serialised ``muster.flower.v1.Message``.

        Raises:
            NotFound: there is none.
        """
        ...

    def close(
        self, outcomes: Sequence[Outcome], record: PhaseRecord, checkpoint: Checkpoint | None
    ) -> None:
        """Writes, all at once, what was decided of a phase and what came of it.

        Devices whose tasks are still open are told to give up. Its replies may be forgotten then, but
        those of a user's own app: they are the journal from which it is brought to where it was.
        A phase that is closed already stays as it is. A task that no outcome names stays as it is, too,
        and its reply is kept: an asynchronous run takes it into a later phase, whose outcomes name
        tasks of earlier ones. A phase that nobody was asked in has no tasks, and is closed likewise.

        Raises:
            ReplyWithdrawn: a reply that shall count has been refused meanwhile; nothing is written.
                Its device was revoked while something was made of the replies.
        """
        ...

    def phases(self) -> Sequence[PhaseRecord]:
        """Those that are closed, in order."""
        ...

    def checkpoint(self) -> Checkpoint | None:
        """The newest; None before the first."""
        ...

    def finish(self, arrays_sha256: str) -> None:
        """The run is done; these are the final parameters."""
        ...

    def fail(self, error: str) -> None:
        """The run can't go on."""
        ...

    def wait(self, seconds: float) -> None:
        """Returns when a reply came or the run's state has changed, or after ``seconds``."""
        ...

    def now_ms(self) -> int:
        """Unix milliseconds by the clock that deadlines are kept by."""
        ...

    def seen_ms(self) -> int:
        """A moment of that clock, as new as can be: whatever came before it is in ``tasks`` from now on.

        A reply has the moment at which it was written, and is there only once that is done. Who decides
        by those moments, and has not seen one of them, would decide otherwise after a restart.
        """
        ...
