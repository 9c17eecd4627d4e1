"""Removes what has served its time: once at the start, then every interval."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from agent.clock import Clock
from controller.retention.actions import (
    expire_tasks,
    expire_telemetry,
    forget_replies,
    forget_run_blobs,
    sweep_blobs,
    trim_reports,
)
from controller.store.blob_store import BlobStore
from controller.store.reply_box import ReplyBox
from controller.store.store import Store

log = logging.getLogger(__name__)

INTERVAL: Final = timedelta(hours=1)
BLOB_GRACE: Final = timedelta(days=1)
"""A registration stores its blobs before the version that names them; it takes less than this."""

RUN_GRACE: Final = timedelta(minutes=10)
"""A run names arrays very soon after it has stored them."""


class RetentionLoop:
    """Removes telemetry older than the retention, old reports, and blobs that nothing names.

    With the box of ``replies`` also what federated runs have left behind.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        clock: Clock,
        retention: timedelta,
        interval: timedelta = INTERVAL,
        replies: ReplyBox | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._retention = retention
        self._interval = interval
        self._replies = replies

    async def run(self) -> None:
        """Never returns; a failure is logged, and the next turn tries again."""
        while True:
            await self.turn()
            await self._clock.sleep(self._interval.total_seconds())

    async def turn(self) -> None:
        """All of it once. What can't be removed leaves the rest to be."""
        now = self._clock.now()
        oldest_ms = int(1000 * (now - self._retention).timestamp())
        await self._remove("telemetry", expire_telemetry(self._store, oldest_ms))
        await self._remove("reports", trim_reports(self._store))
        await self._remove("tasks", expire_tasks(self._store, oldest_ms))
        if self._replies is not None:
            await self._remove("replies", forget_replies(self._store, self._replies))
        spent_ms = int(1000 * (now - RUN_GRACE).timestamp())
        await self._remove("arrays", forget_run_blobs(self._store, self._blobs, spent_ms))
        unnamed = sweep_blobs(self._store, self._blobs, (now - BLOB_GRACE).timestamp())
        await self._remove("blobs", unnamed)

    async def _remove(self, what: str, steps: Iterator[int]) -> None:
        """Each step on a thread of its own turn: whoever waits for the store goes in between."""
        removed = 0
        try:
            while (count := await asyncio.to_thread(next, steps, None)) is not None:
                removed += count
        except Exception:
            log.exception("retention.failed what=%s", what)
        if removed:
            log.info("retention.removed what=%s count=%d", what, removed)
