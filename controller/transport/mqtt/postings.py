"""Directives on their way to a broker, where devices find them also without a controller."""

import asyncio
import logging
from typing import Final

from protos.errors import BrokerError
from protos.mqtt import topics
from protos.mqtt.connection import BrokerClient
from protos.v1 import command_pb2

MOST: Final = 200
"""At once. A fleet's directives, one after the other, would take a round trip to the broker each."""

log = logging.getLogger(__name__)


class Postings:
    """Those that the broker has not acknowledged yet: of each device one, and the newest after it."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(MOST)
        self._waiting: dict[str, tuple[BrokerClient, command_pb2.Command]] = {}
        self._under_way: dict[str, asyncio.Task[None] | None] = {}

    async def post(self, client: BrokerClient, device: str, command: command_pb2.Command) -> None:
        """Leaves the command's directive at the broker. Never raises: what is lost is told again.

        Returns when it is on its way, or in the place of one that still waits; who asks waits while
        too many are under way.
        """
        self._waiting[device] = client, command
        if device in self._under_way:
            return
        self._under_way[device] = None
        has_room = False
        try:
            has_room = await self._room.acquire()
        finally:
            if not has_room:  # who asks was cancelled
                del self._under_way[device], self._waiting[device]
        self._under_way[device] = asyncio.create_task(self._posted(device))

    async def settle(self) -> None:
        """Returns when none is under way."""
        while tasks := [task for task in self._under_way.values() if task is not None]:
            await asyncio.wait(tasks)

    async def _posted(self, device: str) -> None:
        try:
            while device in self._waiting:
                client, command = self._waiting.pop(device)
                await _published(client, device, command)
        finally:
            del self._under_way[device]
            self._room.release()


async def _published(client: BrokerClient, device: str, command: command_pb2.Command) -> None:
    try:
        directive = command.directive.SerializeToString()
        await client.publish(topics.desired(device), directive, retain=True)
    except BrokerError as error:
        log.debug("bridge.directive-unposted device=%s: %s", device, error)
