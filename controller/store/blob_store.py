"""The seam to bundles' files, by lowercase hex SHA-256."""

from collections.abc import Iterator, Sequence
from typing import Protocol


class BlobStore(Protocol):
    """Files by digest. What is in it is complete."""

    def put(self, data: bytes) -> str:
        """Stores the bytes durably; returns their digest.

        Storing twice is as storing once, but that the blob is as young as the last time.
        """
        ...

    def has(self, sha256: str) -> bool: ...  # noqa: D102

    def size(self, sha256: str) -> int:
        """Its length in bytes.

        Raises:
            NotFound: there is no such blob.
        """
        ...

    def read(self, sha256: str, offset: int = 0, chunk: int = 262_144) -> Iterator[bytes]:
        """The bytes from ``offset`` on, in pieces.

        Raises:
            NotFound: there is no such blob.
        """
        ...

    def stored_before(self, moment: float) -> Sequence[str]:
        """The blobs that nobody has stored since ``moment`` (Unix seconds), in no order."""
        ...

    def delete(self, sha256: str, before: float) -> bool:
        """Removes the blob, unless somebody has stored it since ``before``; whether it did.

        Who reads it at this moment may read it to its end, or not.
        """
        ...
