"""Waiting in the event loop, as more than one loop does it."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from agent.clock import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")


async def sleep_unless(clock: Clock, seconds: float, *events: asyncio.Event) -> None:
    """Returns when the seconds have passed or one of the events is set."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(clock.sleep(seconds))]
    waits += [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns; it is carried to its end even if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            log.warning("waiting.unfinished error=%r", task.exception())
        raise


def listening_for_the_end() -> asyncio.Event:
    """Set at SIGTERM or SIGINT, also where a shell has told its background processes to ignore it."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told
