"""Replies of federated tasks in a folder: ``TASK.SHA256.part`` until it is whole, then ``TASK.reply``.

Several processes may use one folder: pieces of one task come one after the other, by a lock on the
folder.
"""

import fcntl
import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from controller.errors import NotFound, StoreError
from controller.federated.intake.piece import Kept, Piece

_WHOLE: Final = ".reply"
_PART: Final = ".part"
_READ_AT_ONCE: Final = 1024 * 1024


class ReplyFolder:
    """``controller.store.reply_box.ReplyBox`` on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The box in ``folder``, which is made for its owner only.

        Raises:
            StoreError: the folder can't be made.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(folder, error) from error
        return cls(folder)

    def add(self, piece: Piece) -> Kept:  # noqa: D102 - see the Protocol
        whole = self._folder / f"{piece.task}{_WHOLE}"
        part = self._folder / f"{piece.task}.{piece.sha256}{_PART}"
        try:
            with self._alone(piece.task):
                if whole.exists():
                    return Kept(whole.stat().st_size, whole=True)
                if not part.exists():  # else they went when it was begun
                    self._drop_others(piece.task, part)
                have = _extended(part, piece)
                if have < piece.length:
                    return Kept(have)
                if _digest(part) != piece.sha256:
                    part.unlink()
                    return Kept(0, damaged=True)
                part.replace(whole)
                _sync(self._folder)
                return Kept(have, whole=True)
        except OSError as error:
            raise _failed(part, error) from error

    def read(self, task: str) -> bytes:  # noqa: D102
        path = self._folder / f"{task}{_WHOLE}"
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"no reply to task {task[:64]!r}") from error
        except OSError as error:
            raise _failed(path, error) from error

    def remove(self, task: str) -> None:  # noqa: D102
        try:
            with self._alone(task):
                whole = self._folder / f"{task}{_WHOLE}"
                if whole.exists():  # beside it there is no part
                    whole.unlink()
                    return
                for path in self._folder.glob(f"{task}.*{_PART}"):
                    path.unlink()
        except OSError as error:
            raise _failed(self._folder, error) from error

    def tasks(self) -> Collection[str]:  # noqa: D102
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError as error:
            raise _failed(self._folder, error) from error
        return {name.partition(".")[0] for name in names if name.endswith((_WHOLE, _PART))}

    def _drop_others(self, task: str, part: Path) -> None:
        for path in self._folder.glob(f"{task}.*{_PART}"):
            if path != part:
                path.unlink()

    @contextmanager
    def _alone(self, task: str) -> Iterator[None]:
        """Nobody else has this task, in this process or another, in the block.

        One of 64 locks, by the task's name: few enough to stay, enough that nobody waits long.
        """
        lock = self._folder / f"lock-{hashlib.sha256(task.encode()).digest()[0] % 64:02d}"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _extended(part: Path, piece: Piece) -> int:
    """Appends what the piece adds to the file; returns its length, durable."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        have = os.fstat(file.fileno()).st_size
        new = piece.data[have - piece.offset :] if piece.offset <= have else b""
        if new:
            file.seek(have)
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
        return have + len(new)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_AT_ONCE):
            digest.update(data)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: {error.strerror or error}")
