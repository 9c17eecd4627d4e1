"""A blob in numbered chunks, each asked for by itself: its answer is its acknowledgement.

So no controller keeps anything for a fetch, any of them can answer any chunk, a chunk that is lost is
asked for again alone, and a fetch goes on where it stopped. The window opens as chunks come, so that
a small file costs one request.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

CHUNK_BYTES: Final = 64 * 1024
"""Sealed and signed, it stays below the packet limits of brokers (AWS IoT Core: 128 KiB)."""

WINDOW: Final = 8
"""Chunks on their way at most: half a megabyte, also what a link of 1 s and 4 Mbit/s holds."""

AskChunk = Callable[[int, int], Awaitable[bytes]]
"""(offset, length) → the bytes there; fewer only at the blob's end."""


async def chunks(ask: AskChunk, offset: int) -> AsyncGenerator[bytes, None]:
    """The blob's bytes from ``offset`` on, in order. Raises what ``ask`` raises."""
    waiting: deque[asyncio.Task[bytes]] = deque()
    window = 1
    try:
        while True:
            while len(waiting) < window:
                waiting.append(asyncio.ensure_future(_asked(ask, offset)))
                offset += CHUNK_BYTES
            data = await waiting[0]
            waiting.popleft()
            if data:
                yield data
            if len(data) < CHUNK_BYTES:
                return
            window = min(2 * window, WINDOW)
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
            for task in waiting:
                if not task.cancelled():
                    task.exception()  # it was not wanted any more


async def _asked(ask: AskChunk, offset: int) -> bytes:
    return await ask(offset, CHUNK_BYTES)
