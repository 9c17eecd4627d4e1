"""The seam to bundles' files, by lowercase hex SHA-256."""

from collections.abc import Iterator
from typing import Protocol


class BlobStore(Protocol):
    """Files by digest. What is in it is complete."""

    def put(self, data: bytes) -> str:
        """Stores the bytes durably; returns their digest. Storing twice is as storing once."""
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
