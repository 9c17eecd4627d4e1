"""A reply on its way: which piece goes next, and what the controller's receipt means."""

from dataclasses import dataclass
from typing import Final

from agent.federated.record import Task
from protos.limits import CHUNK_BYTES
from protos.v1 import federated_pb2

DAMAGED: Final = "damaged"


@dataclass(frozen=True, slots=True)
class GoOn:
    """The piece at ``offset`` is next. ``forward`` is whether that is further than before."""

    offset: int
    forward: bool


@dataclass(frozen=True, slots=True)
class Later:
    """The controller asks for patience: the same piece again, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The controller has all of it."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The controller does not want it; a code, and words."""

    code: str
    words: str


def piece_of(task: Task, reply: bytes, offset: int) -> federated_pb2.ReplyPiece:
    """The piece of the task's reply that begins at ``offset``."""
    return federated_pb2.ReplyPiece(
        task_id=task.id,
        sha256=task.reply,
        length=len(reply),
        offset=offset,
        data=reply[offset : offset + CHUNK_BYTES],
    )


def meant(
    receipt: federated_pb2.ReplyReceipt, sent: federated_pb2.ReplyPiece
) -> GoOn | Taken | Unwanted:
    """What follows from the answer to a piece."""
    if receipt.complete:
        return Taken()
    if receipt.HasField("refused"):
        if receipt.refused.code == DAMAGED:  # on its way: what is here was hashed when it was read
            return GoOn(0, forward=False)
        return Unwanted(receipt.refused.code[:80] or "refused", receipt.refused.detail[:500])
    # Whoever claims to have more than there is has something else: all of it again.
    have = receipt.have if receipt.have < sent.length else 0
    return GoOn(have, forward=have > sent.offset)
