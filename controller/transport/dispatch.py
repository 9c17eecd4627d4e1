"""The one ``Endpoint``: what every transport asks, answered by a table of actions.

It checks what any transport may be sent; what the bytes mean is the actions' business.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.errors import ControllerError, InvalidInput, TooLarge
from controller.store.blob_store import BlobStore
from protos.limits import BLOB_BYTES, CHUNK_BYTES
from protos.methods import METHODS, SUBJECTS
from protos.v1 import common_pb2

Action = Callable[[str, bytes], Awaitable[bytes]]
"""(device, request) → reply."""
Listener = Callable[[str, bytes], Awaitable[None]]
"""(device, payload)."""
Presence = Callable[[str], Awaitable[None]]
"""(device)."""
Fetch = Callable[[str, str, int, Sequence[str]], AsyncIterator[bytes]]
"""(device, sha256, offset, have) → pieces."""

MAX_HAVE: Final = 64
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Dispatch:
    """See ``controller.transport.courier.Endpoint``.

    Attributes:
        actions: by name of a method of ``protos.methods``.
        listeners: by subject of ``protos.methods``.
        admission: (device, certificate serial); raises if the device may not connect.
        arrival: a device's link has come up.
        departure: a device's last link has gone.
        blobs: streams a blob; see ``stream``.
    """

    actions: Mapping[str, Action]
    listeners: Mapping[str, Listener]
    admission: Callable[[str, str], Awaitable[None]]
    arrival: Presence
    departure: Presence
    blobs: Fetch

    async def admit(self, device: str, certificate_serial: str) -> None:
        """Returns if the device may connect."""
        await self.admission(device, certificate_serial)

    async def connected(self, device: str) -> None:
        """A link has come up."""
        await self.arrival(device)

    async def disconnected(self, device: str) -> None:
        """The device's last link has gone."""
        await self.departure(device)

    async def call(self, device: str, method: str, request: bytes) -> bytes:
        """The answer of the method's action.

        Raises:
            InvalidInput: there is no such method.
            TooLarge: the request is.
        """
        if method not in self.actions:
            raise InvalidInput(f"method: {method[:64]!r} is unknown")
        _check_size(method, request, METHODS[method].most_bytes)
        return await self.actions[method](device, request)

    async def fetch(
        self, device: str, sha256: str, offset: int, have: Sequence[str]
    ) -> AsyncIterator[bytes]:
        """The blob from ``offset`` on.

        Raises:
            InvalidInput: a digest is none, or the offset can't be.
        """
        for digest in (sha256, *have[:MAX_HAVE]):
            if not _SHA256.fullmatch(digest):
                raise InvalidInput(f"sha256: {digest[:80]!r} is no SHA-256 in lowercase hex")
        if not 0 <= offset <= BLOB_BYTES:
            raise InvalidInput(f"offset: {offset} is not between 0 and {BLOB_BYTES}")
        async for piece in self.blobs(device, sha256, offset, have[:MAX_HAVE]):
            yield piece

    async def publish(self, device: str, subject: str, payload: bytes) -> None:
        """Hands the payload to the subject's listener.

        Raises:
            InvalidInput: there is no such subject.
            TooLarge: the payload is.
        """
        if subject not in self.listeners:
            raise InvalidInput(f"subject: {subject[:64]!r} is unknown")
        _check_size(subject, payload, SUBJECTS[subject])
        await self.listeners[subject](device, payload)


def problem(error: ControllerError) -> common_pb2.Problem | None:
    """What the device is told: that it was refused, and why.

    None where the controller itself failed: then there is no answer, and trying again may help.
    """
    if error.status >= 500:
        return None
    return common_pb2.Problem(
        code=error.code,
        detail=error.detail[:1000],
        remedy=error.remedy[:500],
        retry_after_ms=error.retry_after_ms,
    )


async def stream(blobs: BlobStore, sha256: str, offset: int) -> AsyncIterator[bytes]:
    """The blob's bytes from ``offset`` on, read on a thread, one piece ahead of nobody.

    Raises:
        NotFound: there is no such blob.
    """
    pieces = await asyncio.to_thread(blobs.read, sha256, offset, CHUNK_BYTES)
    while (piece := await asyncio.to_thread(_next, pieces)) is not None:
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _check_size(name: str, data: bytes, most: int) -> None:
    if len(data) > most:
        raise TooLarge(f"{name}: {len(data)} bytes; {most} at most")
