import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from agent.errors import DiskFull, HashMismatch, Refused, TransportError
from agent.store.blob_folder import BlobFolder
from agent.transport.controller_client import fetch, metadata, publish_facts, upload
from agent.transport.link import Link
from controller.errors import NotFound
from controller.transport.dispatch import Dispatch
from protos.methods import FACTS, METADATA, UPLOAD
from protos.v1 import common_pb2, device_pb2, telemetry_pb2
from simulations.memory_link import MemoryNetwork
from tests.contracts.centre import BLOB, BLOB_SHA256, PIECE, Centre


@pytest.fixture
def centre() -> Centre:
    centre = Centre()
    centre.gate.set()
    return centre


async def dial(endpoint: Dispatch) -> tuple[MemoryNetwork, Link]:
    network = MemoryNetwork(endpoint)
    return network, await network.dialer("d1").dial()


def answering(centre: Centre) -> Dispatch:
    """An endpoint with typed answers."""

    async def give(device: str, request: bytes) -> bytes:
        del device
        name = device_pb2.MetadataRequest.FromString(request).name
        if name == "garbage.json":
            return b"\xff\xff\xff"
        if name != "timestamp.json":
            raise NotFound(f"no metadata {name!r}")
        return device_pb2.MetadataReply(data=b"signed").SerializeToString()

    async def take(device: str, request: bytes) -> bytes:
        del device
        records = telemetry_pb2.UploadRequest.FromString(request).records
        last = max(record.sequence for record in records)
        return telemetry_pb2.UploadReply(stored_through=last).SerializeToString()

    plain = centre.endpoint()
    return Dispatch(
        actions={METADATA.name: give, UPLOAD.name: take},
        listeners=plain.listeners,
        admission=plain.admission,
        arrival=plain.arrival,
        departure=plain.departure,
        blobs=plain.blobs,
    )


async def test_metadata_comes_by_name(centre: Centre) -> None:
    _, link = await dial(answering(centre))

    assert await metadata(link, "timestamp.json") == b"signed"
    with pytest.raises(Refused) as caught:
        await metadata(link, "9.root.json")
    assert caught.value.code == "not-found"
    await link.close()


async def test_an_answer_that_can_not_be_read_is_none(centre: Centre) -> None:
    _, link = await dial(answering(centre))

    with pytest.raises(TransportError, match="can't be read"):
        await metadata(link, "garbage.json")
    await link.close()


async def test_an_upload_says_what_is_stored(centre: Centre) -> None:
    _, link = await dial(answering(centre))
    records = [telemetry_pb2.Record(sequence=number) for number in (3, 4)]
    reply = await upload(link, telemetry_pb2.UploadRequest(spool_id="s", records=records))

    assert reply.stored_through == 4
    await link.close()


async def test_facts_are_published(centre: Centre) -> None:
    _, link = await dial(centre.endpoint())
    facts = common_pb2.DeviceFacts(arch="riscv64")
    await publish_facts(link, facts)

    assert centre.heard == [("d1", FACTS, facts.SerializeToString())]
    await link.close()


async def test_a_fetch_goes_on_where_a_cut_one_stopped(centre: Centre, tmp_path: Path) -> None:
    network, link = await dial(centre.endpoint())
    blobs = BlobFolder(tmp_path)
    centre.gate.clear()

    class Cutting:
        """A writer that loses the network after its first piece."""

        def __init__(self) -> None:
            self._writer = blobs.writer(BLOB_SHA256, len(BLOB))

        @property
        def offset(self) -> int:
            return self._writer.offset

        def write(self, data: bytes) -> None:
            self._writer.write(data)
            network.cut("d1")

        def finish(self) -> None:
            self._writer.finish()

        def close(self) -> None:
            self._writer.close()

    with pytest.raises(TransportError):
        await fetch(link, BLOB_SHA256, Cutting())

    centre.gate.set()
    link = await network.dialer("d1").dial()
    writer = blobs.writer(BLOB_SHA256, len(BLOB))
    assert writer.offset == PIECE
    await fetch(link, BLOB_SHA256, writer)
    assert blobs.read(BLOB_SHA256) == BLOB
    await link.close()


async def test_other_bytes_than_the_digest_names_are_not_kept(
    centre: Centre, tmp_path: Path
) -> None:
    _, link = await dial(centre.endpoint())
    blobs = BlobFolder(tmp_path)
    wanted = hashlib.sha256(b"another").hexdigest()
    writer = blobs.writer(wanted, len(BLOB))

    with pytest.raises(HashMismatch):
        await fetch(link, BLOB_SHA256, writer)
    assert not blobs.has(wanted)
    await link.close()


class Noting:
    """A link that notes when a fetch is over."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.closed = 0

    async def call(self, method: str, request: bytes) -> bytes:
        return await self._link.call(method, request)

    async def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self._link.fetch(sha256, offset):
                yield piece
        finally:
            self.closed += 1

    async def publish(self, subject: str, payload: bytes) -> None:
        await self._link.publish(subject, payload)

    def commands(self) -> AsyncIterator[bytes]:
        return self._link.commands()

    async def close(self) -> None:
        await self._link.close()


class FullDisk:
    """A writer that has no room."""

    offset = 0

    def write(self, data: bytes) -> None:
        raise DiskFull(f"no room for {len(data)} bytes")

    def finish(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        return


async def test_a_fetch_that_can_not_be_written_asks_for_no_more(centre: Centre) -> None:
    _, link = await dial(centre.endpoint())
    noting = Noting(link)

    with pytest.raises(DiskFull) as caught:
        await fetch(noting, BLOB_SHA256, FullDisk())

    assert noting.closed == 1, caught
    await link.close()
