"""Asks every so often whether a model's world has changed, and keeps open incidents up to date."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from agent.clock import Clock
from controller.errors import ControllerError
from controller.incident.actions import bring_up_to_date
from controller.retraining.actions import Memory, look, policies
from controller.retraining.proposal import Act
from controller.store.blob_store import BlobStore
from controller.store.store import Store

LEASE: Final = "retraining"
LEASE_TURNS: Final = 4
"""Another controller takes over after so many turns of silence."""

log = logging.getLogger(__name__)


class RetrainingLoop:
    """Of several controllers on one database one looks.

    Args:
        store: where everything stands.
        blobs: where the profiles are.
        clock: the time.
        interval: seconds between two looks.
        wake: a run was made that starts at once.
        holder: names this controller among those that share the store.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        clock: Clock,
        interval: float,
        wake: Callable[[], None],
        holder: str = "controller",
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._interval = interval
        self._wake = wake
        self._holder = holder
        self._memory = Memory()

    async def run(self) -> None:
        """Until cancelled; a failure is logged, and the next turn tries again."""
        while True:
            try:
                await asyncio.to_thread(self.turn)
            except Exception:
                log.exception("retraining.turn-failed")
            await self._clock.sleep(self._interval)

    def turn(self) -> None:
        """One look at everything; blocks.

        Raises:
            StoreError: the next turn tries again.
        """
        now = self._clock.now().timestamp()
        with self._store.begin() as tx:
            if not tx.leases.acquire(LEASE, self._holder, now, LEASE_TURNS * self._interval):
                return
        with self._store.read() as tx:
            wanted = policies(tx, self._memory)
            open_now = tx.incidents.open()
        for model, policy in wanted.items():
            try:
                decision = look(self._store, self._blobs, policy, self._memory, now)
            except ControllerError as error:
                if error.status >= 500:
                    raise
                log.warning("retraining.not-judged model=%s detail=%s", model, error.detail)
                continue
            if decision is not None and decision.act is Act.START:
                self._wake()
        for incident in open_now:
            try:
                bring_up_to_date(self._store, self._blobs, incident, int(now * 1000))
            except ControllerError as error:
                if error.status >= 500:
                    raise
                log.warning("incident.not-judged id=%s detail=%s", incident.id, error.detail)
