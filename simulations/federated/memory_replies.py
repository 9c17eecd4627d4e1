"""Replies of federated tasks in memory: what tests and simulations use in the folder's place."""

import hashlib
import threading
from collections.abc import Collection

from controller.errors import NotFound
from controller.federated.intake.piece import Kept, Piece


class MemoryReplies:
    """``controller.store.reply_box.ReplyBox`` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, tuple[str, bytes]] = {}  # by task: digest, and what is there
        self._whole: dict[str, bytes] = {}

    def add(self, piece: Piece) -> Kept:  # noqa: D102 - see the Protocol
        with self._lock:
            if piece.task in self._whole:
                return Kept(len(self._whole[piece.task]), whole=True)
            digest, part = self._parts.get(piece.task, (piece.sha256, b""))
            if digest != piece.sha256:
                part = b""
            if piece.offset <= len(part):
                part += piece.data[len(part) - piece.offset :]
            self._parts[piece.task] = piece.sha256, part
            if len(part) < piece.length:
                return Kept(len(part))
            del self._parts[piece.task]
            if hashlib.sha256(part).hexdigest() != piece.sha256:
                return Kept(0, damaged=True)
            self._whole[piece.task] = part
            return Kept(len(part), whole=True)

    def read(self, task: str) -> bytes:  # noqa: D102
        if task not in self._whole:
            raise NotFound(f"no reply to task {task[:64]!r}")
        return self._whole[task]

    def remove(self, task: str) -> None:  # noqa: D102
        with self._lock:
            self._parts.pop(task, None)
            self._whole.pop(task, None)

    def tasks(self) -> Collection[str]:  # noqa: D102
        return {*self._parts, *self._whole}
