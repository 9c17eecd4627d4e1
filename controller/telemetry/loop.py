"""Old telemetry ends: once at the start, then every interval."""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from agent.clock import Clock
from controller.store.store import Store

log = logging.getLogger(__name__)

INTERVAL: Final = timedelta(hours=1)


class ExpiryLoop:
    """Removes windows, events and readings that are older than the retention."""

    def __init__(
        self, store: Store, clock: Clock, retention: timedelta, interval: timedelta = INTERVAL
    ) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._interval = interval

    async def run(self) -> None:
        """Never returns; a failure is logged, and the next turn tries again."""
        while True:
            try:
                await asyncio.to_thread(self.expire)
            except Exception:
                log.exception("telemetry.expiry-failed")
            await self._clock.sleep(self._interval.total_seconds())

    def expire(self) -> int:
        """One turn; returns how many records were removed. Blocks."""
        oldest = self._clock.now() - self._retention
        with self._store.begin() as tx:
            removed = tx.telemetry.expire(int(1000 * oldest.timestamp()))
        if removed:
            log.info("telemetry.expired records=%d before=%s", removed, oldest.isoformat())
        return removed
