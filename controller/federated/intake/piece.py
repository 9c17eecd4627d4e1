"""A piece of a reply, and whether it is wanted. Limits are checked before anything is stored."""

import re
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from controller.errors import InvalidInput
from controller.federated.task import Task, TaskState
from protos.v1 import common_pb2, federated_pb2

LATE: Final = "late"
UNKNOWN: Final = "unknown-task"
TOO_LARGE: Final = "too-large"
DAMAGED: Final = "damaged"

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TASK: Final = re.compile(r"[0-9a-zA-Z_-]{1,64}")
_FORGET: Final = "Nothing to do: the device forgets the reply."
_DETAILS: Final = {
    LATE: "the round has gone on",
    UNKNOWN: "this device has no such task",
    DAMAGED: "the bytes are not those of the digest",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a reply from ``offset`` on.

    Attributes:
        sha256: of the whole reply.
        length: of the whole reply, from 1 on.
    """

    task: str
    sha256: str
    length: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What a reply box has of a reply.

    Attributes:
        have: so many bytes from the start.
        whole: that is all of it, and its digest is right.
        damaged: all of it came, and its digest was wrong: nothing is kept.
    """

    have: int
    whole: bool = False
    damaged: bool = False


def read_piece(request: bytes) -> Piece:
    """The piece in a serialised ``ReplyPiece``.

    Raises:
        InvalidInput: it can't be read, or can't be a piece; names the field.
    """
    try:
        told = federated_pb2.ReplyPiece.FromString(request)
    except DecodeError as error:
        raise InvalidInput("reply: a piece that can't be read") from error
    if not _TASK.fullmatch(told.task_id):
        raise InvalidInput(f"reply: task_id {told.task_id[:80]!r} is none")
    if not _SHA256.fullmatch(told.sha256):
        raise InvalidInput("reply: sha256 is no SHA-256 in lowercase hex")
    if told.length < 1 or told.offset + len(told.data) > told.length:
        raise InvalidInput(f"reply: {len(told.data)} bytes at {told.offset} of {told.length}")
    return Piece(told.task_id, told.sha256, told.length, told.offset, told.data)


def objection(task: Task | None, device: str, piece: Piece, now_ms: int) -> str:
    """Why the piece is not wanted, as a code; empty if it is.

    That somebody else has the task is not told. A reply that is stored already is still wanted:
    its device has not heard that it is.
    """
    if task is None or task.device != device:
        return UNKNOWN
    if task.state is TaskState.POSTED:
        if now_ms > task.deadline_ms:
            return LATE
        return TOO_LARGE if piece.length > task.reply_bytes else ""
    return LATE if task.state in {TaskState.SILENT, TaskState.LATE} else ""


def refusal(code: str, task: Task | None = None) -> federated_pb2.ReplyReceipt:
    """The receipt that says so."""
    most = f"{task.reply_bytes} bytes at most" if task else ""
    detail = _DETAILS.get(code, most)
    problem = common_pb2.Problem(code=code, detail=detail, remedy=_FORGET)
    return federated_pb2.ReplyReceipt(refused=problem)
