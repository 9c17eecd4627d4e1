"""Bodies of requests: read as far as they may be large, and no more of them at once than fit."""

import zlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from agent.errors import InvalidRequest, Overloaded, RequestTooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Hold = Callable[[int], None]

BODIES: Final = 4
"""So many bodies of the largest size are held at once, however many requests they are of."""

IDENTITY: Final = b"identity"
COMPRESSED: Final = frozenset({b"gzip", b"x-gzip", b"deflate"})
_ANY_ZLIB: Final = zlib.MAX_WBITS | 32  # gzip or zlib, by the data's own header


class Bodies:
    """All that are held now. ``limit`` is of one, in bytes, compressed and not."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """Counts what one request holds of the memory that all of them may; called with lengths.

        What it gives raises ``Overloaded`` beyond that.
        """
        held = 0

        def hold(length: int) -> None:
            nonlocal held
            if self._held + length > BODIES * self._limit:
                raise Overloaded("too many large requests at once")
            self._held += length
            held += length

        try:
            yield hold
        finally:
            self._held -= held

    async def read(
        self, receive: Receive, hold: Hold, announced: bytes | None = None
    ) -> bytes | None:
        """The whole body; None if the client went away before it was whole.

        Raises:
            RequestTooLarge: it is, or is announced to be.
            Overloaded: too much is held already.
        """
        if announced is not None and (not announced.isdigit() or int(announced) > self._limit):
            raise self._too_large()
        chunks: list[bytes] = []
        length = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            chunk = message.get("body", b"")
            length += len(chunk)
            if length > self._limit:
                raise self._too_large()
            hold(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def inflated(self, body: bytes, encoding: bytes) -> bytes:
        """The body as it was before compression, as long as that is within the limit.

        Raises:
            RequestTooLarge: it is not.
            InvalidRequest: it can't be read.
        """
        if encoding == IDENTITY:
            return body
        inflater = zlib.decompressobj(_ANY_ZLIB)
        try:
            data = inflater.decompress(body, self._limit + 1)
        except zlib.error as error:
            raise InvalidRequest(f"request: the compressed body can't be read: {error}") from error
        if len(data) > self._limit:
            raise self._too_large()
        if not inflater.eof or inflater.unused_data:
            raise InvalidRequest("request: the compressed body is cut off, or more follows it")
        return data

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"request: more than {self._limit} bytes")
