import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import pytest

from agent.clock import SystemClock
from agent.errors import Refused, TransportError
from agent.transport.connection import Connection
from agent.transport.route import Route
from agent.trust.actions import ImageTrust
from agent.uplink import Uplink
from protos.mirror import blob_path, metadata_path
from simulations.memory_blobs import MemoryBlobs
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_link import MemoryNetwork
from simulations.memory_mirror import MemoryMirror
from tests.contracts.centre import BLOB, BLOB_SHA256, DEADLINE, Centre

PATH = blob_path(BLOB_SHA256)
HALF = len(BLOB) // 2


@dataclass
class Site:
    """A device with a mirror near by, and a link to the controller that may be down."""

    uplink: Uplink
    mirror: MemoryMirror
    blobs: MemoryBlobs
    connection: Connection
    network: MemoryNetwork
    centre: Centre

    async def linked(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.connection.link()

    async def fetch(self, sha256: str = BLOB_SHA256, length: int = len(BLOB)) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.uplink.fetch(sha256, length)


@contextlib.asynccontextmanager
async def at_a_site(*, up: bool) -> AsyncIterator[Site]:
    centre, mirror, blobs = Centre(), MemoryMirror(), MemoryBlobs()
    centre.gate.set()
    network = MemoryNetwork(centre.endpoint())
    if not up:
        network.isolate("d1")

    async def greeted(_: object) -> None:
        return

    rng = Random(1)  # noqa: S311 - no secret depends on it
    route = Route("memory", network.dialer("d1"))
    connection = Connection([route], SystemClock(), rng, greeted, greeted)
    trust = ImageTrust(MemoryDeviceStore(), SystemClock(), "1", mirror=mirror.metadata)
    running = asyncio.create_task(connection.run())
    site = Site(
        Uplink(connection, blobs, trust, mirror), mirror, blobs, connection, network, centre
    )
    try:
        if up:
            await site.linked()
        yield site
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_blob_comes_from_the_mirror_first() -> None:
    async with at_a_site(up=True) as site:
        site.mirror.files[PATH] = BLOB

        await site.fetch()

    assert site.blobs.read(BLOB_SHA256) == BLOB
    assert not site.centre.entered["fetch"].is_set()


async def test_a_blob_comes_from_the_mirror_without_any_link() -> None:
    async with at_a_site(up=False) as site:
        site.mirror.files[PATH] = BLOB

        await site.fetch()

    assert site.blobs.has(BLOB_SHA256)


@pytest.mark.parametrize("down", [False, True], ids=["without it", "down"])
async def test_what_the_mirror_can_t_give_comes_over_the_link(down: bool) -> None:
    async with at_a_site(up=True) as site:
        site.mirror.down = down

        await site.fetch()

    assert site.mirror.asked == [PATH]
    assert site.blobs.has(BLOB_SHA256)


async def test_a_mirror_that_gives_no_answer_holds_up_one_blob_and_not_each() -> None:
    async with at_a_site(up=True) as site:
        site.mirror.down = True
        await site.fetch()
        with pytest.raises(Refused):
            await site.fetch("0" * 64)
        assert site.mirror.asked == [PATH]

        site.network.isolate("d1")
        async with asyncio.timeout(DEADLINE):
            while site.connection.via:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0)
        with pytest.raises(TransportError):
            await site.fetch("0" * 64)

    assert site.mirror.asked == [PATH, blob_path("0" * 64)]


async def test_the_link_goes_on_where_the_mirror_broke_off() -> None:
    async with at_a_site(up=False) as site:
        site.mirror.files[PATH] = BLOB
        site.mirror.breaks_after = HALF
        with pytest.raises(TransportError):
            await site.fetch()
        assert len(site.blobs.partial[BLOB_SHA256]) == HALF

        site.network.restore("d1")
        await site.linked()
        site.mirror.down = True
        await site.fetch()

    assert site.blobs.read(BLOB_SHA256) == BLOB


async def test_other_bytes_are_dropped_and_the_mirror_is_left_alone_for_that_blob() -> None:
    async with at_a_site(up=False) as site:
        site.mirror.files[PATH] = bytes(len(BLOB))
        other = b"another blob"
        digest = hashlib.sha256(other).hexdigest()
        site.mirror.files[blob_path(digest)] = other

        for _ in range(2):  # as if nobody had answered, both times
            with pytest.raises(TransportError):
                await site.fetch()
        await site.fetch(digest, len(other))

        assert site.mirror.asked == [PATH, blob_path(digest)]
        assert site.blobs.partial == {}
        site.network.restore("d1")
        await site.linked()
        await site.fetch()

    assert site.blobs.read(BLOB_SHA256) == BLOB


async def test_more_bytes_than_were_announced_are_dropped_too() -> None:
    async with at_a_site(up=True) as site:
        site.mirror.files[PATH] = BLOB + b"more"

        await site.fetch()

    assert site.blobs.read(BLOB_SHA256) == BLOB


async def test_what_a_mirror_began_wrongly_fails_no_blob_of_the_controller_s() -> None:
    async with at_a_site(up=True) as site:
        site.mirror.files[PATH] = bytes(len(BLOB))
        site.mirror.breaks_after = HALF

        await site.fetch()

    assert site.blobs.read(BLOB_SHA256) == BLOB


async def test_a_torn_beginning_is_not_held_against_the_mirror() -> None:
    async with at_a_site(up=False) as site:
        site.blobs.partial[BLOB_SHA256] = bytearray(HALF)
        site.mirror.files[PATH] = BLOB

        await site.fetch()

    assert site.mirror.asked == [PATH, PATH]
    assert site.blobs.read(BLOB_SHA256) == BLOB


async def test_metadata_comes_over_the_link_while_there_is_one() -> None:
    async with at_a_site(up=True) as site:
        site.mirror.files[metadata_path("timestamp.json")] = b"old"
        with contextlib.suppress(TransportError):  # the centre of this test answers with an echo
            await asyncio.to_thread(site.uplink.metadata, "timestamp.json")

    assert site.mirror.asked == []


async def test_without_a_link_nobody_waits_for_metadata() -> None:
    async with at_a_site(up=False) as site:
        with pytest.raises(TransportError, match="there is no link"):
            await asyncio.to_thread(site.uplink.metadata, "timestamp.json")


async def test_neither_has_it() -> None:
    async with at_a_site(up=True) as site:
        with pytest.raises(Refused):
            await site.fetch("0" * 64)
