"""What the agent's loops ask of the controller, over whatever link is live or comes up in time."""

import asyncio
from functools import partial
from typing import Final

from agent.errors import TransportError
from agent.store.blob_store import BlobStore, BlobWriter
from agent.transport import controller_client
from agent.transport.connection import Connection
from agent.transport.link import Link
from agent.trust.actions import ImageTrust
from agent.trust.verify import VerifiedVersion
from protos.documents import Assignment
from protos.methods import METADATA
from protos.v1 import telemetry_pb2

LINK_SECONDS: Final = 20.0


class Uplink:
    """The seams of trust, install and telemetry, carried out over one connection."""

    def __init__(self, connection: Connection, blobs: BlobStore, trust: ImageTrust) -> None:
        self._connection = connection
        self._blobs = blobs
        self._trust = trust

    def metadata(self, name: str) -> bytes:
        """Image metadata by file name. Blocks: for python-tuf's client, which runs on a thread.

        Raises:
            Refused: the code is ``not-found`` where there is none.
            TransportError: no answer.
        """
        request = controller_client.metadata_request(name)
        return controller_client.metadata_reply(
            self._connection.call_blocking(METADATA.name, request)
        )

    async def upload(self, request: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
        """Sends records; the reply says which may be forgotten.

        Raises:
            TransportError, Refused: they were not taken.
        """
        return await controller_client.upload(await self._link(), request)

    async def fetch(self, sha256: str, length: int) -> None:
        """Brings a blob into the blob store, from where it stopped before.

        Raises:
            TransportError, Refused: it did not come, or not all of it; what came is kept.
            HashMismatch, EndlessData, DiskFull: it could not be taken.
        """
        link = await self._link()
        await controller_client.fetch(link, sha256, await self._writer(sha256, length))

    async def _writer(self, sha256: str, length: int) -> BlobWriter:
        """Opened on a thread, which hashes what is there; closed if nobody waits for it any more."""
        opening = asyncio.ensure_future(
            asyncio.to_thread(partial(self._blobs.writer, sha256, length))
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_let_go)
            raise

    async def verify(self, assignment: Assignment) -> VerifiedVersion:
        """The version, once directive and image metadata agree on it.

        Raises:
            Untrusted: it may not run; the class says why.
            TransportError, Refused: newer metadata could not be had.
        """
        return await self._trust.verify(assignment, self.metadata, self._manifest)

    async def _manifest(self, sha256: str, length: int) -> bytes:
        if not await asyncio.to_thread(self._blobs.has, sha256):
            await self.fetch(sha256, length)
        return await asyncio.to_thread(self._blobs.read, sha256)

    async def _link(self) -> Link:
        try:
            async with asyncio.timeout(LINK_SECONDS):
                return await self._connection.link()
        except TimeoutError as error:
            raise TransportError(f"no link within {LINK_SECONDS:g} s") from error


def _let_go(opened: "asyncio.Future[BlobWriter]") -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()
