"""The device's blob store without a disk: for tests and simulations."""

import hashlib
from collections.abc import Iterable

from agent.errors import DiskFull, EndlessData, HashMismatch, StoreError
from agent.store.digest_name import checked


class MemoryBlobs:
    """See ``BlobStore``. ``capacity`` is what the pretend disk holds, in bytes."""

    def __init__(self, capacity: int = 1 << 40) -> None:
        self.capacity = capacity
        self.complete: dict[str, bytes] = {}
        self.partial: dict[str, bytearray] = {}
        self.writing: set[str] = set()

    def has(self, sha256: str) -> bool:
        """Whether the complete blob is there."""
        return checked(sha256) in self.complete

    def read(self, sha256: str) -> bytes:
        """The whole blob, verified again; removed if it was changed."""
        data = self.complete.get(checked(sha256))
        if data is None:
            raise StoreError(f"blob {sha256}: not there")
        if hashlib.sha256(data).hexdigest() != sha256:
            del self.complete[sha256]
            raise HashMismatch(f"blob {sha256}: the disk has changed it")
        return data

    def verify(self, sha256: str) -> int:
        """The blob's length; its bytes were hashed again."""
        return len(self.read(sha256))

    def writer(self, sha256: str, length: int) -> "MemoryBlobWriter":
        """To write the blob, going on where an earlier writer stopped."""
        if checked(sha256) in self.writing:
            raise StoreError(f"blob {sha256}: it is being written")
        if len(self.partial.get(sha256, b"")) > length:
            del self.partial[sha256]
        return MemoryBlobWriter(self, sha256, length)

    def keep_only(self, sha256s: Iterable[str]) -> int:
        """Removes every other blob, and partials that nobody writes; returns the bytes freed."""
        kept = {checked(sha256) for sha256 in sha256s}
        before = self.used()
        self.complete = {name: data for name, data in self.complete.items() if name in kept}
        kept |= self.writing
        self.partial = {name: data for name, data in self.partial.items() if name in kept}
        return before - self.used()

    def free_bytes(self) -> int:
        """Room left on the pretend disk."""
        return self.capacity - self.used()

    def used(self) -> int:
        """Bytes of all blobs and partials."""
        files = (*self.complete.values(), *self.partial.values())
        return sum(len(data) for data in files)


class MemoryBlobWriter:
    """See ``BlobWriter``."""

    def __init__(self, blobs: MemoryBlobs, sha256: str, length: int) -> None:
        self._blobs = blobs
        self._sha256 = sha256
        self._length = length
        self._open = True
        if sha256 not in blobs.complete:
            blobs.partial.setdefault(sha256, bytearray())
            blobs.writing.add(sha256)

    @property
    def offset(self) -> int:
        """How many bytes are there already."""
        if self._sha256 in self._blobs.complete:
            return self._length
        return len(self._blobs.partial.get(self._sha256, b""))

    def write(self, data: bytes) -> None:
        """Appends what fits on the disk."""
        if self.offset + len(data) > self._length:
            self._discard()
            raise EndlessData(f"blob {self._sha256}: more than the {self._length} bytes announced")
        partial = self._partial() if data else bytearray()
        room = self._blobs.free_bytes()
        partial += data[:room]
        if len(data) > room:
            raise DiskFull(f"blob {self._sha256}: no room")

    def finish(self) -> None:
        """Makes the blob visible."""
        if self._sha256 in self._blobs.complete:
            return
        data = bytes(self._partial())
        self._discard()
        if len(data) != self._length or hashlib.sha256(data).hexdigest() != self._sha256:
            raise HashMismatch(f"blob {self._sha256}: got {len(data)} bytes of {self._length}")
        self._blobs.complete[self._sha256] = data

    def close(self) -> None:
        """Keeps what has come so far."""
        if self._open:
            self._open = False
            self._blobs.writing.discard(self._sha256)

    def _partial(self) -> bytearray:
        if not self._open:
            raise StoreError(f"blob {self._sha256}: its writer is closed")
        return self._blobs.partial[self._sha256]

    def _discard(self) -> None:
        self._blobs.partial.pop(self._sha256, None)
        self.close()
