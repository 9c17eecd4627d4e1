import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

from agent.clock import SystemClock
from agent.errors import StoreError
from agent.store.blob_folder import BlobFolder
from agent.store.blob_store import BlobWriter
from agent.transport.connection import Connection
from agent.transport.route import Route
from agent.trust.actions import ImageTrust
from agent.uplink import Uplink
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_link import MemoryNetwork
from tests.contracts.centre import BLOB, BLOB_SHA256, DEADLINE, Centre


class SlowWriter:
    """A writer that waits for ``gate`` before its last step."""

    def __init__(self, inner: BlobWriter, folder: "SlowFolder") -> None:
        self.inner, self.folder = inner, folder

    @property
    def offset(self) -> int:
        return self.inner.offset

    def write(self, data: bytes) -> None:
        self.inner.write(data)

    def finish(self) -> None:
        self.folder.begun.set()
        assert self.folder.gate.wait(DEADLINE)
        self.inner.finish()

    def close(self) -> None:
        self.inner.close()
        self.folder.closed.set()


class SlowFolder(BlobFolder):
    """A disk that is slow to ``open`` a partial, or to ``finish`` one: until ``gate`` is set."""

    def __init__(self, root: Path, slow: str) -> None:
        super().__init__(root)
        self.slow = slow
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.closed = threading.Event()

    def writer(self, sha256: str, length: int) -> Any:
        opened = super().writer(sha256, length)
        if self.slow == "finish":
            return SlowWriter(opened, self)
        self.begun.set()
        assert self.gate.wait(DEADLINE)
        return opened


@contextlib.asynccontextmanager
async def uplink_over(blobs: BlobFolder) -> AsyncIterator[Uplink]:
    centre = Centre()
    centre.gate.set()

    async def greeted(_: object) -> None:
        return

    connection = Connection(
        [Route("memory", MemoryNetwork(centre.endpoint()).dialer("d1"))],
        SystemClock(),
        Random(1),  # noqa: S311 - no secret depends on it
        greeted,
        greeted,
    )
    running = asyncio.create_task(connection.run())
    try:
        yield Uplink(connection, blobs, ImageTrust(MemoryDeviceStore(), SystemClock(), "1"))
    finally:
        running.cancel()
        await asyncio.wait([running])


async def given_up(uplink: Uplink, blobs: SlowFolder) -> None:
    """A fetch that is cancelled while the disk is at it; the disk then goes on."""
    fetching = asyncio.create_task(uplink.fetch(BLOB_SHA256, len(BLOB)))
    assert await asyncio.to_thread(blobs.begun.wait, DEADLINE)
    fetching.cancel()
    await asyncio.wait([fetching])
    assert fetching.cancelled()
    blobs.gate.set()


async def test_a_fetch_that_was_given_up_at_its_beginning_leaves_the_blob_to_the_next_one(
    tmp_path: Path,
) -> None:
    blobs = SlowFolder(tmp_path, "open")
    async with uplink_over(blobs) as uplink, asyncio.timeout(DEADLINE):
        await given_up(uplink, blobs)
        while not blobs.has(BLOB_SHA256):
            with contextlib.suppress(StoreError):  # until the disk has let go of it
                await uplink.fetch(BLOB_SHA256, len(BLOB))

    assert blobs.read(BLOB_SHA256) == BLOB


async def test_a_fetch_that_was_given_up_at_its_end_is_whole_all_the_same(tmp_path: Path) -> None:
    blobs = SlowFolder(tmp_path, "finish")
    async with uplink_over(blobs) as uplink, asyncio.timeout(DEADLINE):
        await given_up(uplink, blobs)
        assert await asyncio.to_thread(blobs.closed.wait, DEADLINE)

    assert blobs.read(BLOB_SHA256) == BLOB
