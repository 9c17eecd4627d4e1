"""What one device is asked in one phase of a run, and how that may stand.

Rules:

1. A task is durable before its device is told; a device is told again whenever it connects.
2. A device has one task at a time: the newest that is open.
3. Whether a reply counts is decided once, when its phase is closed, and written down: whoever
   resumes the run aggregates the same replies.
4. A reply that comes after its phase was closed is counted as late, and not kept.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class TaskState(StrEnum):
    """Where a task stands."""

    POSTED = "posted"  # its device is told as soon as it has a link
    REPLIED = "replied"  # the whole reply is stored, and not yet judged
    ADMITTED = "admitted"  # the reply counts
    DECLINED = "declined"  # the device does not want to, or could not; with a code and a reason
    REFUSED = "refused"  # the reply failed the admission check
    SURPLUS = "surplus"  # a good reply that the quorum did not wait for
    SILENT = "silent"  # no reply until the phase was closed
    LATE = "late"  # a reply came afterwards


class TaskEvent(StrEnum):
    """What can happen to a task."""

    REPLY = "reply"
    ADMIT = "admit"
    DECLINE = "decline"
    REFUSE = "refuse"
    SPARE = "spare"
    CLOSE = "close"


S, E = TaskState, TaskEvent

TRANSITIONS: Final[dict[tuple[TaskState, TaskEvent], TaskState]] = {
    (S.POSTED, E.REPLY): S.REPLIED,
    (S.POSTED, E.CLOSE): S.SILENT,
    (S.REPLIED, E.ADMIT): S.ADMITTED,
    (S.REPLIED, E.DECLINE): S.DECLINED,
    (S.REPLIED, E.REFUSE): S.REFUSED,
    (S.REPLIED, E.SPARE): S.SURPLUS,
    (S.SILENT, E.REPLY): S.LATE,
}

OPEN: Final = frozenset({S.POSTED})
"""The device may still reply in time."""

UNSETTLED: Final = frozenset({S.POSTED, S.REPLIED})
"""Its phase is not closed."""


class Phase(StrEnum):
    """Flower's message types."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    QUERY = "query"


class Encoding(StrEnum):
    """How a device sends the arrays of its reply."""

    FLOAT32 = "float32"
    INT8_STEP = "int8-step"


@dataclass(frozen=True, slots=True)
class ArraysReference:
    """An array record that travels as a blob: its key in the message, digest and length."""

    key: str
    sha256: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. Times are Unix milliseconds; 0 where there is none yet.

    Attributes:
        id: Flower's message id; ``task_id`` makes it.
        run: whose.
        step: number of the phase in its run, from 1 on: a Flower app may have as many as it likes.
        round: Flower's ``server-round``; 0 if the message names none.
        phase: what is asked.
        node: the device as Flower names it: ``node_id``.
        device: who is asked.
        message: a serialised ``muster.flower.v1.Message`` without its arrays.
        arrays: its array records, by reference.
        encoding: of the arrays of the reply.
        posted_ms: when it became durable.
        deadline_ms: a reply after that comes too late.
        reply_bytes: the most that a reply may have.
        state: where it stands.
        reply_sha256: of the stored reply; empty while there is none.
        reply_length: of the stored reply.
        replied_ms: when the reply was whole.
        code: why it was declined or refused; empty otherwise.
        reason: the same in words.
    """

    id: str
    run: str
    step: int
    round: int
    phase: Phase
    node: int
    device: str
    message: bytes
    arrays: tuple[ArraysReference, ...]
    encoding: Encoding
    posted_ms: int
    deadline_ms: int
    reply_bytes: int
    state: TaskState = TaskState.POSTED
    reply_sha256: str = ""
    reply_length: int = 0
    replied_ms: int = 0
    code: str = ""
    reason: str = ""


def next_state(state: TaskState, event: TaskEvent) -> TaskState | None:
    """Where ``event`` leads; None where it changes nothing."""
    return TRANSITIONS.get((state, event))


def node_id(device: str) -> int:
    """The device as Flower names it: uint64, neither 0 nor 1 (which is the SuperLink).

    From the name alone, so that nothing has to be kept; two of ten thousand devices share one with
    a probability of 3e-12, and then the second is not asked.
    """
    digest = hashlib.sha256(f"muster node {device}".encode()).digest()
    return max(int.from_bytes(digest[:8], "big"), 2)


def task_id(run: str, step: int, node: int) -> str:
    """The same whenever it is asked for: a phase that is posted again is the same phase."""
    return hashlib.sha256(f"muster task {run} {step} {node}".encode()).hexdigest()[:32]
