"""What the agent's loops ask of the controller, over whatever link is live or comes up in time.

Where there is a mirror, blobs come from it, for it is near; what it does not have comes over the link.
For metadata it is the other way round: the controller has the newest.
"""

import asyncio
import logging
from functools import partial
from typing import Final

from agent.errors import EndlessData, HashMismatch, Refused, TransportError
from agent.store.blob_store import BlobStore, BlobWriter
from agent.transport import controller_client
from agent.transport.connection import Connection
from agent.transport.controller_client import BlobSource
from agent.transport.link import Link
from agent.transport.mirror import Mirror
from agent.trust.actions import ImageTrust
from agent.trust.verify import VerifiedVersion
from protos.documents import Assignment
from protos.methods import METADATA
from protos.v1 import federated_pb2, telemetry_pb2

log = logging.getLogger(__name__)

LINK_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 30.0
BEFORE_MIRROR_SECONDS: Final = 10.0
"""So long a live link may take for metadata where a mirror can be asked instead."""
MIRROR_REST_SECONDS: Final = 60.0
"""So long a mirror that gave no answer is not asked for blobs, while there is a link to ask."""


class Uplink:
    """The seams of trust, install, telemetry and training, carried out over one connection."""

    def __init__(
        self,
        connection: Connection,
        blobs: BlobStore,
        trust: ImageTrust,
        mirror: Mirror | None = None,
    ) -> None:
        """``trust`` asks the same mirror, after ``metadata``."""
        self._connection = connection
        self._blobs = blobs
        self._trust = trust
        self._mirror = mirror
        self._left_alone: set[str] = set()  # blobs of which the mirror has had other bytes
        self._rests_until = 0.0  # the mirror, by the event loop's clock

    def metadata(self, name: str) -> bytes:
        """Image metadata by file name. Blocks: for python-tuf's client, which runs on a thread.

        Where a mirror can be asked instead, nobody waits for a link that is not up.

        Raises:
            Refused: the code is ``not-found`` where there is none.
            TransportError: no answer.
        """
        within = ANSWER_SECONDS
        if self._mirror is not None:
            if not self._connection.via:
                raise TransportError("there is no link")
            within = BEFORE_MIRROR_SECONDS
        request = controller_client.metadata_request(name)
        return controller_client.metadata_reply(
            self._connection.call_blocking(METADATA.name, request, within)
        )

    async def upload(self, request: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
        """Sends records; the reply says which may be forgotten.

        Raises:
            TransportError, Refused: they were not taken.
        """
        return await controller_client.upload(await self._link(), request)

    async def reply(self, piece: federated_pb2.ReplyPiece) -> federated_pb2.ReplyReceipt:
        """Sends a piece of the reply to a federated task; the receipt says which is next.

        Raises:
            TransportError: no answer; Refused: the controller said no.
        """
        return await controller_client.reply(await self._link(), piece)

    async def publish_readiness(self, readiness: federated_pb2.Readiness) -> None:
        """Tells whether the device would train now, if there is a link at this moment.

        Raises:
            TransportError: it was not heard; Refused: the controller said no.
        """
        await controller_client.publish_readiness(await self._link(0.0), readiness)

    async def fetch(self, sha256: str, length: int) -> None:
        """Brings a blob into the blob store, from where it stopped before.

        Other bytes from a mirror are dropped, and are held against nobody but the mirror.

        Raises:
            TransportError, Refused: it did not come, or not all of it; what came is kept.
            HashMismatch, EndlessData, DiskFull: it could not be taken.
        """
        if not await self._mirrored(sha256, length):
            link = await self._link(LINK_SECONDS if self._mirror is None else 0.0)
            await self._bring(link, sha256, length)
            self._left_alone.discard(sha256)

    async def _mirrored(self, sha256: str, length: int) -> bool:
        """Whether a mirror has brought it."""
        now = asyncio.get_running_loop().time
        rests = now() < self._rests_until and self._connection.via
        if self._mirror is None or rests or sha256 in self._left_alone:
            return False
        try:
            await self._bring(self._mirror, sha256, length)
        except (HashMismatch, EndlessData) as error:
            self._left_alone.add(sha256)
            log.warning("mirror.wrong-bytes sha256=%s detail=%s", sha256, error.detail)
        except TransportError as error:
            self._rests_until = now() + MIRROR_REST_SECONDS
            log.info("mirror.silent sha256=%s detail=%s", sha256, error.detail)
        except Refused as error:
            log.info("mirror.not-there sha256=%s detail=%s", sha256, error.detail)
        else:
            return True
        return False

    async def _bring(self, source: BlobSource, sha256: str, length: int) -> None:
        """Raises ``HashMismatch`` and ``EndlessData`` only for what the source alone has sent.

        What had come before may be another's, or a torn write's: then all of it comes again.
        """
        writer = await self._writer(sha256, length)
        resumed = writer.offset > 0
        try:
            await controller_client.fetch(source, sha256, writer)
        except (HashMismatch, EndlessData):
            if not resumed:
                raise
            log.info("blob.again sha256=%s", sha256)
            await controller_client.fetch(source, sha256, await self._writer(sha256, length))

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

    async def _link(self, within: float = LINK_SECONDS) -> Link:
        try:
            async with asyncio.timeout(within):
                return await self._connection.link()
        except TimeoutError as error:
            raise TransportError(f"no link within {within:g} s") from error


def _let_go(opened: "asyncio.Future[BlobWriter]") -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()
