"""The seam to files by digest: what is complete is verified, what is partial goes on."""

from collections.abc import Iterable
from typing import Protocol


class BlobWriter(Protocol):
    """A blob that is coming in, in order. There is one writer of a blob at a time."""

    @property
    def offset(self) -> int:
        """How many bytes are there already: from a run before, too."""
        ...

    def write(self, data: bytes) -> None:
        """Appends.

        Raises:
            EndlessData: more than the announced length; nothing is kept.
            DiskFull: no room; what fitted is kept.
        """
        ...

    def finish(self) -> None:
        """Makes the blob visible and durable.

        Raises:
            HashMismatch: these are not the bytes that the digest names; nothing is kept.
        """
        ...

    def close(self) -> None:
        """Keeps what has come so far, to go on later. Harmless after ``finish``."""
        ...


class BlobStore(Protocol):
    """Blobs by lowercase hex SHA-256.

    Every method that takes a digest raises ``MalformedDocument`` if it is none.
    """

    def has(self, sha256: str) -> bool:
        """Whether the complete blob is there."""
        ...

    def read(self, sha256: str) -> bytes:
        """The whole blob, verified again.

        Raises:
            HashMismatch: the disk has changed it; the blob is removed.
            StoreError: it is not there.
        """
        ...

    def verify(self, sha256: str) -> int:
        """The blob's length; its bytes were read again, a piece at a time.

        Raises:
            HashMismatch: the disk has changed it; the blob is removed.
            StoreError: it is not there.
        """
        ...

    def writer(self, sha256: str, length: int) -> BlobWriter:
        """To write the blob, going on where an earlier writer stopped: what it left is hashed again.

        Raises:
            StoreError: it is being written.
        """
        ...

    def keep_only(self, sha256s: Iterable[str]) -> int:
        """Removes every other blob, and partials that nobody writes; returns the bytes freed."""
        ...

    def free_bytes(self) -> int:
        """Room left on the disk."""
        ...
