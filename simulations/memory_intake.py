"""The controller's end of federated tasks without a store: takes replies in pieces, hears readiness.

Give its ``reply`` and ``hear`` to a ``Dispatch``, and its ``blobs`` are what devices fetch.
"""

import hashlib
from dataclasses import dataclass, field

from protos.v1 import common_pb2, federated_pb2


@dataclass
class MemoryIntake:
    """What devices have sent. Faults and answers are switches.

    Attributes:
        replies: whole ones, by task.
        partial: what has come of the others.
        unwanted: code by task: the reply is refused.
        damaged: tasks whose reply, once it is whole, is told to have been damaged on its way.
        rest_ms: what a receipt says of the next task.
        pieces: (task, offset, bytes) of every piece, in the order in which they came.
        readiness: by device, the newest.
        blobs: array records, by digest.
    """

    replies: dict[str, bytes] = field(default_factory=dict)
    partial: dict[str, bytes] = field(default_factory=dict)
    unwanted: dict[str, str] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    rest_ms: int = 0
    pieces: list[tuple[str, int, int]] = field(default_factory=list)
    readiness: dict[str, federated_pb2.Readiness] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def put(self, record: bytes) -> str:
        """SHA-256 of an array record that devices may fetch from now on."""
        sha256 = hashlib.sha256(record).hexdigest()
        self.blobs[sha256] = record
        return sha256

    async def reply(self, device: str, request: bytes) -> bytes:
        """The receipt for a piece."""
        del device
        return self.take(federated_pb2.ReplyPiece.FromString(request)).SerializeToString()

    async def hear(self, device: str, payload: bytes) -> None:
        """Takes what a device says of its readiness."""
        self.readiness[device] = federated_pb2.Readiness.FromString(payload)

    def take(self, piece: federated_pb2.ReplyPiece) -> federated_pb2.ReplyReceipt:
        """The receipt; a piece that goes on where the last one ended is kept."""
        task = piece.task_id
        self.pieces.append((task, piece.offset, len(piece.data)))
        receipt = federated_pb2.ReplyReceipt(next_after_ms=self.rest_ms)
        if task in self.unwanted:
            return _refused(self.unwanted[task], "nobody waits for it")
        have = self.replies.get(task, self.partial.get(task, b""))
        if piece.offset == len(have) and task not in self.replies:
            have += piece.data
            self.partial[task] = have
            if len(have) == piece.length and task in self.damaged:
                self.damaged.discard(task)
                del self.partial[task]
                return _refused("damaged", "the bytes are not those of the digest")
            if len(have) == piece.length and hashlib.sha256(have).hexdigest() == piece.sha256:
                self.replies[task] = self.partial.pop(task)
        receipt.have, receipt.complete = len(have), task in self.replies
        return receipt


def _refused(code: str, detail: str) -> federated_pb2.ReplyReceipt:
    return federated_pb2.ReplyReceipt(refused=common_pb2.Problem(code=code, detail=detail))
