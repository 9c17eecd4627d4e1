"""The page of an agent's metrics, made for all who ask within a moment at once."""

import asyncio
from collections.abc import Callable
from typing import Final

FRESH_SECONDS: Final = 1.0
"""However many ask, it is made no more often than that: it counts what is on the disk."""


class MetricsPage:
    """What ``make`` returns, no older than a moment. Use it on one event loop."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._page: asyncio.Task[bytes] | None = None
        self._began = 0.0

    async def text(self) -> bytes:
        """The page; or raises what making it did."""
        page, now = self._page, asyncio.get_running_loop().time()
        if page is None or (page.done() and now - self._began >= FRESH_SECONDS):
            page = asyncio.create_task(asyncio.to_thread(self._make))
            self._page, self._began = page, now
        return await asyncio.shield(page)  # one who goes away takes nobody else's
