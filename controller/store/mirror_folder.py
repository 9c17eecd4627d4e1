"""The tree of ``protos.mirror`` as files, for any web server to serve while it is being changed.

A file has its name only once all of it is on the disk, so no reader ever sees a part of one.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, Self

from controller.errors import Conflict, StoreError
from protos.mirror import belongs

_INCOMING: Final = ".incoming-"
_PIECE_BYTES: Final = 1 << 20


class MirrorFolder:
    """One mirror's files, by path below the folder. Use as a context manager: one at a time has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = -1

    def __enter__(self) -> Self:
        """Makes the folder if it is not there, and sweeps out what a crash has left.

        Raises:
            Conflict: another process brings it up to date.
            StoreError: it can't be made or written.
        """
        with _translated(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise Conflict(
                    f"{self._folder}: another process brings it up to date",
                    "Wait until it is done.",
                ) from None
            self._lock = lock
            for leftover in self._folder.glob(f"{_INCOMING}*"):
                leftover.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)
        self._lock = -1

    def holds(self, path: str, sha256: str) -> bool:
        """Whether the file is there, and its bytes have that digest: they are read.

        Raises:
            StoreError: the disk can't be read.
        """
        digest = hashlib.sha256()
        for piece in self._pieces(path):
            digest.update(piece)
        return digest.hexdigest() == sha256

    def read(self, path: str, sha256: str) -> bytes | None:
        """The file's bytes, if it is there and they have that digest; for what is small.

        Raises:
            StoreError: the disk can't be read.
        """
        data = b"".join(self._pieces(path))
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def put(self, path: str, pieces: Iterable[bytes], sha256: str) -> int:
        """Makes the file be those bytes, all at once and durably; returns how many.

        Raises:
            StoreError: they do not have that digest, or the disk is full or can't be written. What
                stood there stays.
        """
        place, incoming = self._folder / path, self._folder / f"{_INCOMING}{secrets.token_hex(8)}"
        digest, length = hashlib.sha256(), 0
        with _translated(place), contextlib.ExitStack() as undo:
            undo.callback(incoming.unlink, missing_ok=True)
            with incoming.open("xb") as file:
                for piece in pieces:
                    digest.update(piece)
                    length += file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise StoreError(
                    f"{place}: the controller sent other bytes than it announced",
                    "Try again. If it stays so, a file on the controller's disk is damaged.",
                )
            self._make_folder(place.parent)
            incoming.replace(place)
            _sync(place.parent)
        return length

    def paths(self) -> Iterator[str]:
        """Every file of the tree; what else there may be in the folder is somebody else's.

        Raises:
            StoreError: the disk can't be read.
        """
        with _translated(self._folder):
            for place in self._folder.rglob("*"):
                path = place.relative_to(self._folder).as_posix()
                if belongs(path):
                    yield path

    def keep_only(self, paths: Collection[str]) -> int:
        """Removes every other file of the tree; returns how many.

        Raises:
            StoreError: one can't be removed.
        """
        others = [path for path in self.paths() if path not in paths]
        for path in others:
            with _translated(self._folder / path):
                (self._folder / path).unlink()
        return len(others)

    def _pieces(self, path: str) -> Iterator[bytes]:
        place = self._folder / path
        missing = contextlib.suppress(FileNotFoundError)
        with _translated(place), missing, place.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            _sync(folder.parent)


@contextlib.contextmanager
def _translated(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{place}: {error.strerror or error}", "Check the disk and the owner of the folder."
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
