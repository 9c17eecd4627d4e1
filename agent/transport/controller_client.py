"""What the agent asks of its controller, typed, over any ``Link``.

Every function raises what the link raises: ``TransportError`` or ``Refused``.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Protocol

from google.protobuf.message import DecodeError

from agent.errors import TransportError
from agent.store.blob_store import BlobWriter
from agent.transport.link import Link
from protos.methods import FACTS, METADATA, READINESS, REPLY, UPLOAD
from protos.v1 import common_pb2, device_pb2, federated_pb2, telemetry_pb2


def metadata_request(name: str) -> bytes:
    """The request of ``METADATA``, for callers that bring their own way to the link."""
    return device_pb2.MetadataRequest(name=name).SerializeToString()


def metadata_reply(reply: bytes) -> bytes:
    """The metadata in the answer of ``METADATA``."""
    try:
        return device_pb2.MetadataReply.FromString(reply).data
    except DecodeError as error:
        raise TransportError("metadata: an answer that can't be read") from error


async def metadata(link: Link, name: str) -> bytes:
    """Image metadata by file name: "timestamp.json", "3.root.json". Not verified."""
    return metadata_reply(await link.call(METADATA.name, metadata_request(name)))


async def upload(link: Link, request: telemetry_pb2.UploadRequest) -> telemetry_pb2.UploadReply:
    """Sends records; the reply says which may be forgotten."""
    reply = await link.call(UPLOAD.name, request.SerializeToString())
    try:
        return telemetry_pb2.UploadReply.FromString(reply)
    except DecodeError as error:
        raise TransportError("upload: an answer that can't be read") from error


async def reply(link: Link, piece: federated_pb2.ReplyPiece) -> federated_pb2.ReplyReceipt:
    """Sends a piece of the reply to a federated task; the receipt says which is next."""
    answer = await link.call(REPLY.name, piece.SerializeToString())
    try:
        return federated_pb2.ReplyReceipt.FromString(answer)
    except DecodeError as error:
        raise TransportError("reply: a receipt that can't be read") from error


class BlobSource(Protocol):
    """Who has blobs: a link to the controller, or a mirror."""

    def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on; see ``Link``."""
        ...


async def fetch(source: BlobSource, sha256: str, writer: BlobWriter) -> None:
    """Brings the blob into the writer, from where it stands, and finishes it.

    What has come stays when the source fails: call again with a writer for the same blob. The writer
    is closed in every case.

    Raises:
        EndlessData, HashMismatch: these are not the bytes that the digest names.
        DiskFull: no room.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(writer.close)
        async with contextlib.aclosing(source.fetch(sha256, writer.offset)) as pieces:
            async for chunk in pieces:
                writer.write(chunk)
        undo.pop_all()
        # On a thread, for it waits for the disk; a caller that gives up does not close it meanwhile.
        await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(_finished, writer)))


def _finished(writer: BlobWriter) -> None:
    with contextlib.closing(writer):
        writer.finish()


async def publish_facts(link: Link, facts: common_pb2.DeviceFacts) -> None:
    """Tells what this device is."""
    await link.publish(FACTS, facts.SerializeToString())


async def publish_readiness(link: Link, readiness: federated_pb2.Readiness) -> None:
    """Tells whether the device would train now."""
    await link.publish(READINESS, readiness.SerializeToString())
