"""The seam to the replies of federated tasks: bytes that come in pieces, until their phase is closed."""

from collections.abc import Collection
from typing import Protocol

from controller.federated.intake.piece import Kept, Piece


class ReplyBox(Protocol):
    """Of each task at most one reply, by task id. Nothing of it is trusted.

    It holds no more of a task than the length of the piece that was added last: who adds checks that.
    """

    def add(self, piece: Piece) -> Kept:
        """Keeps the piece durably, if it continues what is there; returns what is there then.

        A piece of another reply, by its digest, starts anew. Once a reply is whole it stays, and what
        is added changes nothing.

        Raises:
            StoreError: the disk is full or can't be written; what was kept stays.
        """
        ...

    def read(self, task: str) -> bytes:
        """The whole reply.

        Raises:
            NotFound: there is none, or it is not whole.
        """
        ...

    def remove(self, task: str) -> None:
        """Whatever is there of it."""
        ...

    def tasks(self) -> Collection[str]:
        """Those of which anything is there."""
        ...
