"""Signs snapshot and timestamp anew before they expire, for as long as the controller runs."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from agent.clock import Clock
from controller.signing.actions import resign_online
from controller.signing.publication import Act, OnlineSigners, present
from controller.signing.roles import (
    DEFAULT_LIFETIMES,
    SNAPSHOT,
    TIMESTAMP,
    Lifetimes,
    renewal_at,
)
from controller.store.store import Store
from protos.tuf import Snapshot, Timestamp

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS: Final = 3600.0
SHORTEST_PAUSE_SECONDS: Final = 10.0
ACTOR: Final = "controller"


class ResignLoop:
    """Keeps the online roles fresh."""

    def __init__(
        self,
        store: Store,
        online: OnlineSigners,
        clock: Clock,
        lifetimes: Lifetimes = DEFAULT_LIFETIMES,
    ) -> None:
        self._store = store
        self._online = online
        self._clock = clock
        self._lifetimes = lifetimes

    async def run(self) -> None:
        """Never returns; ends when it is cancelled."""
        while True:
            try:
                pause = await self.once()
            except Exception:
                log.exception("signing.failed")
                pause = SHORTEST_PAUSE_SECONDS
            await self._clock.sleep(pause)

    async def once(self) -> float:
        """Signs what is due; returns the seconds until it should look again.

        Raises:
            ControllerError: the store failed, or a key is not the one that root names.
        """
        now = self._clock.now()
        signed, due = await asyncio.to_thread(self._sign, now)
        if signed:
            log.info("signing.renewed roles=%s", ",".join(signed))
        if due is None:
            return LONGEST_PAUSE_SECONDS
        seconds = (due - now).total_seconds()
        return min(max(seconds, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    def _sign(self, now: datetime) -> tuple[Sequence[str], datetime | None]:
        with self._store.begin() as tx:
            signed = resign_online(tx, self._online, Act(ACTOR, now, self._lifetimes))
            snapshot, timestamp = present(tx, SNAPSHOT, Snapshot), present(tx, TIMESTAMP, Timestamp)
        if snapshot is None or timestamp is None:
            return signed, None
        return signed, min(
            renewal_at(snapshot.signed.expires, self._lifetimes.snapshot),
            renewal_at(timestamp.signed.expires, self._lifetimes.timestamp),
        )
