"""Looks now and then whether somebody has asked that a version be tried again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NoReturn

from agent.clock import Clock
from agent.errors import AgentError
from agent.store.lift_requests import LiftRequests

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0


class LiftLoop:
    """Does what the requests ask for; one that fails stays, and is tried at the next look."""

    def __init__(
        self, requests: LiftRequests, lift: Callable[[str], Awaitable[None]], clock: Clock
    ) -> None:
        self._requests = requests
        self._lift = lift
        self._clock = clock

    async def run(self) -> NoReturn:
        """Never returns; ends when it is cancelled."""
        while True:
            try:
                await self.look()
            except AgentError as error:
                log.warning("quarantine.not-lifted code=%s detail=%s", error.code, error.detail)
            except Exception:
                log.exception("quarantine.not-lifted")
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Lifts what is asked for now.

        Raises:
            StoreError, DiskFull: it can't be known, or not be made durable.
        """
        for manifest_sha256 in await asyncio.to_thread(self._requests.asked):
            await self._lift(manifest_sha256)
            await asyncio.to_thread(partial(self._requests.done, manifest_sha256))
