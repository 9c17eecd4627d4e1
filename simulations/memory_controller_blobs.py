"""Bundles' files in memory: what tests and simulations use in the folder's place."""

import time
from collections.abc import Iterator, Sequence

from controller.errors import InvalidInput, NotFound
from protos.documents import sha256 as digest_of


class MemoryControllerBlobs:
    """``controller.store.blob_store.BlobStore`` in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._stored_at: dict[str, float] = {}

    def put(self, data: bytes) -> str:
        """Keeps the bytes; returns their digest."""
        sha256 = digest_of(data)
        self._blobs[sha256] = bytes(data)
        self._stored_at[sha256] = time.time()
        return sha256

    def has(self, sha256: str) -> bool:  # noqa: D102 - see the Protocol
        return sha256 in self._blobs

    def size(self, sha256: str) -> int:
        """Its length in bytes.

        Raises:
            NotFound: there is no such blob.
        """
        return len(self._get(sha256))

    def read(self, sha256: str, offset: int = 0, chunk: int = 262_144) -> Iterator[bytes]:
        """The bytes from ``offset`` on, in pieces.

        Raises:
            NotFound: there is no such blob.
            InvalidInput: the offset is negative.
        """
        if offset < 0:
            raise InvalidInput(f"offset: {offset} is negative")
        data = self._get(sha256)
        return (data[at : at + chunk] for at in range(offset, len(data), chunk))

    def stored_before(self, moment: float) -> Sequence[str]:
        """The blobs that nobody has stored since ``moment``."""
        return [sha256 for sha256, at in self._stored_at.items() if at < moment]

    def delete(self, sha256: str, before: float) -> bool:
        """Removes the blob, unless somebody has stored it since ``before``; whether it did."""
        if self._stored_at.get(sha256, before) >= before:
            return False
        del self._blobs[sha256], self._stored_at[sha256]
        return True

    def _get(self, sha256: str) -> bytes:
        try:
            return self._blobs[sha256]
        except KeyError:
            raise NotFound(f"no blob {sha256[:64]!r}") from None
