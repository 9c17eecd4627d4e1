"""Bundles' files in a folder: ``FOLDER/ab/abcdef…``, each durable before it has its name."""

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from controller.errors import InvalidInput, NotFound, StoreError
from protos.documents import sha256 as digest_of

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_INCOMING: Final = ".incoming-"


class BlobFolder:
    """``controller.store.blob_store.BlobStore`` on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # between being found there, and being removed

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The store in ``folder``, which is made for its owner only; leftovers are swept out.

        Raises:
            StoreError: the folder can't be made or written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            for leftover in folder.glob(f"{_INCOMING}*"):
                leftover.unlink()
        except OSError as error:
            raise _failed(folder, error) from error
        return cls(folder)

    def put(self, data: bytes) -> str:
        """Stores the bytes durably; returns their digest.

        Storing twice is as storing once, but that the blob is as young as the last time.

        Raises:
            StoreError: the disk is full or can't be written; nothing is kept.
        """
        sha256 = digest_of(data)
        path = self._path(sha256)
        incoming = self._folder / f"{_INCOMING}{secrets.token_hex(8)}"
        try:
            if self._renewed(path, len(data)):
                return sha256
            _write(incoming, data)
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                _sync(self._folder)
            incoming.replace(path)
            _sync(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                incoming.unlink(missing_ok=True)
            raise _failed(path, error) from error
        return sha256

    def has(self, sha256: str) -> bool:  # noqa: D102 - see the Protocol
        return _DIGEST.fullmatch(sha256) is not None and self._path(sha256).is_file()

    def size(self, sha256: str) -> int:
        """Its length in bytes.

        Raises:
            NotFound: there is no such blob.
        """
        size = _size(self._path(sha256)) if _DIGEST.fullmatch(sha256) else None
        if size is None:
            raise NotFound(f"no blob {sha256[:64]!r}")
        return size

    def read(self, sha256: str, offset: int = 0, chunk: int = 262_144) -> Iterator[bytes]:
        """The bytes from ``offset`` on, in pieces; none if it is at or beyond the end.

        Raises:
            NotFound: there is no such blob.
            InvalidInput: the offset is negative.
            StoreError: the disk can't be read; raised on the way.
        """
        if offset < 0:
            raise InvalidInput(f"offset: {offset} is negative")
        return self._pieces(self._path(sha256), offset, self.size(sha256), chunk)

    def stored_before(self, moment: float) -> Sequence[str]:
        """The blobs that nobody has stored since ``moment`` (Unix seconds), in no order.

        Raises:
            StoreError: the disk can't be read.
        """
        try:
            return [
                path.name
                for path in self._folder.glob("??/*")
                if _DIGEST.fullmatch(path.name) and path.stat().st_mtime < moment
            ]
        except OSError as error:
            raise _failed(self._folder, error) from error

    def delete(self, sha256: str, before: float) -> bool:
        """Removes the blob, unless somebody has stored it since ``before``; whether it did.

        Raises:
            StoreError: the disk can't be written.
        """
        if not _DIGEST.fullmatch(sha256):
            return False
        path = self._path(sha256)
        try:
            with self._lock:
                if path.stat().st_mtime >= before:
                    return False
                path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failed(path, error) from error
        return True

    def _renewed(self, path: Path, size: int) -> bool:
        """Whether the file is there, whole; if so, it is as young as if it were written now."""
        with self._lock:
            there = _size(path) == size
            if there:
                os.utime(path)
            return there

    def _pieces(self, path: Path, offset: int, size: int, chunk: int) -> Iterator[bytes]:
        if offset >= size:
            return
        try:
            with path.open("rb") as file:
                file.seek(offset)
                while piece := file.read(chunk):
                    yield piece
        except OSError as error:
            raise _failed(path, error) from error

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: {error.strerror or error}")
