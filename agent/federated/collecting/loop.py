"""Lets go of what is too old to learn from."""

import asyncio
import logging
from typing import Final, NoReturn

from agent.clock import Clock
from agent.errors import AgentError
from agent.federated.collecting.actions import Collector

log = logging.getLogger(__name__)

EXPIRE_SECONDS: Final = 3600.0


async def keep_fresh(collector: Collector, clock: Clock) -> NoReturn:
    """Has the collector let go of what is too old, every hour from now on."""
    while True:
        try:
            await asyncio.to_thread(collector.expire)
        except AgentError as error:
            log.warning("examples.not-expired code=%s detail=%s", error.code, error.detail)
        await clock.sleep(EXPIRE_SECONDS)
