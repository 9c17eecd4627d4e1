"""Blobs in a folder: ``<2 hex>/<sha256>`` when complete, ``<2 hex>/.<sha256>.part`` until then.

A name without ``.part`` is a promise: the bytes were hashed, and they and their name are durable.
Folders are opened once and never through a symbolic link; files neither.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.errors import AgentError, DiskFull, EndlessData, HashMismatch, StoreError
from agent.store.digest_name import checked, digest_of, partial_name

PIECE_BYTES: Final = 1024 * 1024
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def translated(subject: str) -> Iterator[None]:
    """Our errors for the operating system's.

    Raises:
        DiskFull: no room.
        StoreError: anything else.
    """
    try:
        yield
    except OSError as error:
        raise translate(error, subject) from error


def translate(error: OSError, subject: str) -> AgentError:
    """Our error for the operating system's."""
    reason = f"blob {subject}: {error.strerror or error}"
    return DiskFull(reason) if error.errno in _NO_ROOM else StoreError(reason)


class BlobFolder:
    """See ``BlobStore``. Reading and hashing take time: call from a thread."""

    def __init__(self, root: Path) -> None:
        """Makes the folder if it is not there.

        Raises:
            StoreError: it can't be made, or is a symbolic link.
        """
        with translated(str(root)):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(root, _FOLDER)
        self._path = root

    def has(self, sha256: str) -> bool:
        """Whether the complete blob is there."""
        name = checked(sha256)
        with translated(name), contextlib.ExitStack() as undo:
            try:
                bucket = self._open_bucket(name, undo)
                found = os.stat(name, dir_fd=bucket, follow_symlinks=False)
            except FileNotFoundError:
                return False
        return stat.S_ISREG(found.st_mode)

    def read(self, sha256: str) -> bytes:
        """The whole blob, verified again.

        Raises:
            HashMismatch: the disk has changed it; the blob is removed.
            StoreError: it is not there.
        """
        return b"".join(self._pieces(checked(sha256)))

    def verify(self, sha256: str) -> int:
        """The blob's length; its bytes were read again, a piece at a time.

        Raises:
            HashMismatch: the disk has changed it; the blob is removed.
            StoreError: it is not there.
        """
        return sum(len(piece) for piece in self._pieces(checked(sha256)))

    def writer(self, sha256: str, length: int) -> "BlobFileWriter | CompleteBlob":
        """To write the blob, going on where an earlier writer stopped.

        Raises:
            StoreError: it is being written, or can't be.
            DiskFull: no room for its folder.
        """
        if self.has(sha256):
            return CompleteBlob(length)
        with translated(sha256):
            return BlobFileWriter(self._bucket(sha256[:2]), sha256, length)

    def path_of(self, sha256: str) -> Path:
        """Where the complete blob lies, or would: for a process that checks what it reads."""
        name = checked(sha256)
        return self._path / name[:2] / name

    def keep_only(self, sha256s: Iterable[str]) -> int:
        """Removes every other blob, and partials that nobody writes; returns the bytes freed."""
        kept = {checked(sha256) for sha256 in sha256s}
        freed = 0
        with translated("folder"):
            for bucket in names_in(self._root):
                if len(bucket) == 2:
                    freed += self._sweep(bucket, kept)
        return freed

    def free_bytes(self) -> int:
        """Room left on the disk, for this user."""
        with translated("folder"):
            disk = os.fstatvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Lets go of the folder. May be called twice."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _open_bucket(self, sha256: str, undo: contextlib.ExitStack) -> int:
        """A descriptor of the blob's folder, until ``undo`` is closed; no link is followed."""
        bucket = os.open(sha256[:2], _FOLDER, dir_fd=self._root)
        undo.callback(os.close, bucket)
        return bucket

    def _bucket(self, name: str) -> int:
        """A descriptor of the folder of that name, which is durable."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._root)
            os.fsync(self._root)
        return os.open(name, _FOLDER, dir_fd=self._root)

    def _pieces(self, sha256: str) -> Iterator[bytes]:
        """The blob piece by piece; the last step raises if they were not the blob's."""
        digest = hashlib.sha256()
        with translated(sha256), contextlib.ExitStack() as undo:
            try:
                bucket = self._open_bucket(sha256, undo)
                file = os.open(sha256, os.O_RDONLY | _FILE, dir_fd=bucket)
            except FileNotFoundError:
                raise StoreError(f"blob {sha256}: not there") from None
            with os.fdopen(file, "rb", buffering=0) as source:
                while piece := source.read(PIECE_BYTES):
                    digest.update(piece)
                    yield piece
            if digest.hexdigest() != sha256:
                os.unlink(sha256, dir_fd=bucket)
                raise HashMismatch(f"blob {sha256}: the disk has changed it")

    def _sweep(self, bucket: str, kept: set[str]) -> int:
        """Removes what is not kept of one folder; returns the bytes freed."""
        freed = 0
        try:
            folder = os.open(bucket, _FOLDER, dir_fd=self._root)
        except NotADirectoryError:
            return 0  # somebody else's; a symbolic link is one, too
        try:
            for name in names_in(folder):
                sha256 = digest_of(name)
                if sha256 is None or sha256 in kept or is_written(name, folder):
                    continue
                freed += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
                os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
        return freed


class CompleteBlob:
    """The writer of a blob that is there: nothing is left to write."""

    def __init__(self, length: int) -> None:
        self._length = length

    @property
    def offset(self) -> int:
        """The blob's length."""
        return self._length

    def write(self, data: bytes) -> None:
        """Appends nothing.

        Raises:
            EndlessData: there is something to append.
        """
        if data:
            raise EndlessData(f"{len(data)} bytes more than the {self._length} announced")

    def finish(self) -> None:
        """The blob is visible and durable already."""

    def close(self) -> None:
        """Nothing to let go of."""


class BlobFileWriter:
    """See ``BlobWriter``. Takes over ``folder``, a descriptor."""

    def __init__(self, folder: int, sha256: str, length: int) -> None:
        self._folder = folder
        self._sha256 = sha256
        self._length = length
        self._partial = partial_name(sha256)
        self._digest = hashlib.sha256()
        self._offset = 0
        self._file: int | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            flags = os.O_RDWR | os.O_CREAT | _FILE
            self._file = os.open(self._partial, flags, 0o600, dir_fd=folder)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"blob {sha256}: it is being written") from None
            self._take_up(self._file)
            undo.pop_all()

    @property
    def offset(self) -> int:
        """How many bytes are there already: from a run before, too."""
        return self._offset

    def write(self, data: bytes) -> None:
        """Appends.

        Raises:
            EndlessData: more than the announced length; nothing is kept.
            DiskFull: no room; what fitted is kept.
        """
        file = self._open_file()
        if self._offset + len(data) > self._length:
            self._discard()
            raise EndlessData(f"blob {self._sha256}: more than the {self._length} bytes announced")
        rest = memoryview(data)
        with translated(self._sha256):
            while rest:
                written = os.write(file, rest)
                self._digest.update(rest[:written])
                self._offset += written
                rest = rest[written:]

    def finish(self) -> None:
        """Makes the blob visible and durable.

        Raises:
            HashMismatch: these are not the bytes that the digest names; nothing is kept.
            DiskFull, StoreError: they could not be made durable; they are kept.
        """
        file = self._open_file()
        if self._offset != self._length or self._digest.hexdigest() != self._sha256:
            got = f"{self._offset} bytes of {self._length}, SHA-256 {self._digest.hexdigest()}"
            self._discard()
            raise HashMismatch(f"blob {self._sha256}: got {got}")
        with translated(self._sha256):
            os.fsync(file)
            here = self._folder
            os.replace(self._partial, self._sha256, src_dir_fd=here, dst_dir_fd=here)
            os.fsync(here)
        self.close()

    def close(self) -> None:
        """Keeps what has come so far, to go on later. Harmless after ``finish``."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _open_file(self) -> int:
        if self._file is None:
            raise StoreError(f"blob {self._sha256}: its writer is closed")
        return self._file

    def _take_up(self, file: int) -> None:
        """Hashes what an earlier writer left; starts anew if that is more than it may be."""
        while piece := os.read(file, PIECE_BYTES):
            self._digest.update(piece)
            self._offset += len(piece)
        if self._offset > self._length:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
            self._digest, self._offset = hashlib.sha256(), 0

    def _discard(self) -> None:
        with translated(self._sha256):
            os.unlink(self._partial, dir_fd=self._folder)
        self.close()


def names_in(folder: int) -> list[str]:
    """What the folder of that descriptor holds."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def is_written(name: str, folder: int) -> bool:
    """Whether a writer has that partial open."""
    if not name.endswith(".part"):
        return False
    try:
        file = os.open(name, os.O_RDWR | _FILE, dir_fd=folder)
    except OSError:
        return False  # a symbolic link, or gone
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
