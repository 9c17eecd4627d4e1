"""A directive that can't be taken now is not lost, though nobody sends it again."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import pytest

from agent.errors import AgentError, DiskFull, TransportError
from agent.trust.actions import ImageTrust
from agent.trust.loop import DirectiveLoop
from protos.documents import Directive
from simulations.memory_device_store import MemoryDeviceStore, MemoryInstallStore
from tests.attacks.world import DeviceUnderAttack, World


class FullDisk(MemoryInstallStore):
    """Has no room for a directive as often as it is told."""

    failures: int = 0

    def save_directive(self, envelope: bytes, generation: int) -> None:
        if self.failures:
            self.failures -= 1
            raise DiskFull("no room")
        super().save_directive(envelope, generation)


@dataclass
class Taken:
    """What the loop told."""

    accepted: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_accepted(self, directive: Directive) -> None:
        self.accepted.append(directive.generation)
        self.changed.set()

    def on_refused(self, error: AgentError) -> None:
        self.refused.append(error.code)
        self.changed.set()


@contextlib.asynccontextmanager
async def running(world: World, trust: ImageTrust, taken: Taken) -> AsyncIterator[DirectiveLoop]:
    rng = Random(7)  # noqa: S311 - jitter
    loop = DirectiveLoop(trust, world.fetch, taken.on_accepted, taken.on_refused, world.clock, rng)
    task = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(10):
            yield loop
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def time_passes(world: World, taken: Taken) -> None:
    """Until the loop tells something."""
    taken.changed.clear()
    while not taken.changed.is_set():
        world.clock.advance(seconds=60)
        await asyncio.sleep(0.001)


def with_full_disk(world: World) -> tuple[DeviceUnderAttack, FullDisk]:
    store = MemoryDeviceStore()
    installs = FullDisk(store)
    store.installs = installs
    return DeviceUnderAttack(world, store), installs


async def test_a_directive_that_the_disk_had_no_room_for_is_taken_once_it_has(
    world: World,
) -> None:
    device, disk = with_full_disk(world)
    await device.refresh("digits")
    disk.failures = 3
    taken = Taken()
    async with running(world, device.trust, taken) as loop:
        await loop.take(world.directive(7, world.assignment("digits", 1)))
        assert (taken.accepted, device.store.installs.generation()) == ([], 0)

        await time_passes(world, taken)

    assert (taken.accepted, taken.refused) == ([7], [])
    assert device.store.installs.generation() == 7


async def test_a_directive_that_came_before_the_metadata_is_taken_once_the_controller_answers(
    world: World, device: DeviceUnderAttack
) -> None:
    world.forged["2.root.json"] = TransportError("cut off")
    taken = Taken()
    async with running(world, device.trust, taken) as loop:
        await loop.take(world.directive(7))
        assert taken.accepted == []
        world.forged = {}
        await time_passes(world, taken)

    assert taken.accepted == [7]


async def test_the_newest_one_waits_and_an_older_one_never_comes_after_a_newer(
    world: World,
) -> None:
    device, disk = with_full_disk(world)
    await device.refresh("digits")
    disk.failures = 2
    taken = Taken()
    async with running(world, device.trust, taken) as loop:
        await loop.take(world.directive(7))
        await loop.take(world.directive(8))
        await time_passes(world, taken)
        disk.failures = 1
        await loop.take(world.directive(9))
        await loop.take(world.directive(10))
        world.clock.advance(seconds=60)
        await loop.take(world.directive(11))

    assert taken.accepted == [8, 10, 11]
    assert taken.refused == []


async def test_a_refused_one_takes_the_place_of_none_that_waits(world: World) -> None:
    device, disk = with_full_disk(world)
    await device.refresh("digits")
    disk.failures = 1
    taken = Taken()
    async with running(world, device.trust, taken) as loop:
        await loop.take(world.directive(7))
        await loop.take(world.directive(9, device="somebody-else"))
        await time_passes(world, taken)

    assert (taken.accepted, taken.refused) == ([7], ["wrong-device"])


async def test_a_directive_that_comes_again_is_taken_again_and_logged_once(
    world: World, device: DeviceUnderAttack, caplog: pytest.LogCaptureFixture
) -> None:
    await device.refresh("digits")
    taken = Taken()
    async with running(world, device.trust, taken) as loop:
        with caplog.at_level(logging.INFO, "agent.trust.loop"):
            for generation in (7, 7, 8, 8):
                await loop.take(world.directive(generation))

    assert taken.accepted == [7, 7, 8, 8]
    assert caplog.messages == ["directive.accepted generation=7", "directive.accepted generation=8"]
