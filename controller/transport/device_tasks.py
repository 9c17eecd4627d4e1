"""What a transport does for each device just now: so many things at once, and all of them can be cut."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class DeviceTasks:
    """Tasks, by device. A device without any costs nothing."""

    def __init__(self) -> None:
        self._running: dict[str, set[asyncio.Task[None]]] = {}

    def count(self, device: str) -> int:
        """How many run for the device."""
        return len(self._running.get(device, ()))

    def start(self, device: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs it beside; what it raises is logged."""
        task = asyncio.create_task(work)
        self._running.setdefault(device, set()).add(task)
        task.add_done_callback(lambda ended: self._drop(device, ended))

    def cut(self, device: str) -> None:
        """Cancels the device's tasks, but for the one that asks for it."""
        for task in tuple(self._running.get(device, ())):
            if task is not asyncio.current_task():
                task.cancel()

    async def settle(self) -> None:
        """Returns when nothing runs for anybody."""
        while self._running:
            await asyncio.wait([task for tasks in self._running.values() for task in tasks])

    async def close(self) -> None:
        """Cancels everything; returns when it has ended."""
        for device in tuple(self._running):
            self.cut(device)
        await self.settle()

    def _drop(self, device: str, task: asyncio.Task[None]) -> None:
        running = self._running.get(device, set())
        running.discard(task)
        if not running:
            self._running.pop(device, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("device.work-broke device=%s", device, exc_info=error)
