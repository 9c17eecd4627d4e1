"""Tells devices their tasks: when tasks are posted or closed, and whenever a device connects.

Level-triggered: a device is told what it shall do now, or that it shall do nothing. Of several
controllers on one store the one that has the device's link tells it.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from agent.clock import Clock
from agent.waiting import sleep_unless
from controller.errors import DeviceOffline
from controller.federated.readiness import Orders
from controller.federated.telling.order import order_command
from controller.store.store import Store
from controller.transport.courier import Courier

INTERVAL_SECONDS: Final = 1.0
"""So long a device may wait for what another controller's coordinator has posted."""

AT_ONCE: Final = 200
"""Orders that are read in one go."""

log = logging.getLogger(__name__)


class OrderLoop:
    """Sends orders, when woken and every ``interval`` seconds, to devices that have a link here."""

    def __init__(
        self, store: Store, courier: Courier, clock: Clock, interval: float = INTERVAL_SECONDS
    ) -> None:
        self._store = store
        self._courier = courier
        self._clock = clock
        self._interval = interval
        self._woken = asyncio.Event()
        self._running: asyncio.AbstractEventLoop | None = None
        self._seen = 0
        # What is read is sent before anything newer is read: the last that is sent is the newest.
        self._turn = asyncio.Lock()

    def wake(self) -> None:
        """Tasks were posted or closed. From any thread."""
        running = self._running
        if running is None:
            self._woken.set()
        elif not running.is_closed():
            running.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Until cancelled."""
        self._running = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            try:
                await self.turn()
            except Exception:
                log.exception("federated.telling_failed")
            await sleep_unless(self._clock, self._interval, self._woken)

    async def turn(self) -> None:
        """Tells every device whose order has changed since the last turn.

        Raises:
            StoreError: the store can't be read; the next turn tells them.
        """
        changed = await asyncio.to_thread(self._changed)
        linked = self._courier.connected()
        due = [device for device in changed.devices if device in linked]
        for first in range(0, len(due), AT_ONCE):
            await self._tell(due[first : first + AT_ONCE])
        self._seen = changed.revision

    async def connected(self, device: str) -> None:
        """A link has come up: the device is told, if it was ever asked anything.

        Raises:
            StoreError: the store can't be read.
        """
        if await asyncio.to_thread(self._asked, device):
            await self._tell([device])

    async def _tell(self, devices: Sequence[str]) -> None:
        async with self._turn:
            for device, command in await asyncio.to_thread(self._orders, devices):
                try:
                    await self._courier.send(device, command)
                except DeviceOffline:
                    log.debug("federated.device_offline device=%s", device)  # told when it connects

    def _changed(self) -> Orders:
        with self._store.read() as tx:
            return tx.tasks.orders_since(self._seen)

    def _asked(self, device: str) -> bool:
        with self._store.read() as tx:
            return tx.tasks.asked(device)

    def _orders(self, devices: Sequence[str]) -> list[tuple[str, bytes]]:
        now_ms = int(self._clock.now().timestamp() * 1000)
        with self._store.read() as tx:
            tasks = {device: tx.tasks.newest_open(device) for device in devices}
            ids = {task.run for task in tasks.values() if task is not None}
            runs = {run: tx.runs.get(run) for run in ids}
        return [
            (device, order_command(runs.get(task.run) if task else None, task, now_ms))
            for device, task in tasks.items()
        ]
