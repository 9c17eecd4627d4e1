import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from agent.errors import DiskFull, TransportError
from agent.trust.actions import ImageTrust
from agent.trust.loop import RefreshLoop
from tests.attacks.world import DeviceUnderAttack, World, manifest


class Turns:
    """Counts what the loop does, and lets a test wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    async def __call__(self) -> None:
        self.count += 1
        self._changed.set()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.count < count:
                await self._changed.wait()
                self._changed.clear()


@asynccontextmanager
async def running(loop: RefreshLoop) -> AsyncIterator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on another thread
            await asyncio.sleep(0.001)


def loop_of(
    world: World, device: DeviceUnderAttack, on_limits: Callable[[], Awaitable[None]]
) -> RefreshLoop:
    rng = Random(7)  # noqa: S311 - jitter
    return RefreshLoop(device.trust, world.fetch, on_limits, world.clock, rng, 300)


async def test_it_refreshes_at_the_start_and_has_every_slot_looked_at(
    world: World, device: DeviceUnderAttack
) -> None:
    limits = Turns()
    async with running(loop_of(world, device, limits)):
        await limits.reach(1)

    assert "targets.json" in device.versions()


async def test_a_recall_is_told_once_it_is_known(world: World, device: DeviceUnderAttack) -> None:
    limits = Turns()
    await device.refresh("digits")
    loop = loop_of(world, device, limits)
    async with running(loop):
        await limits.reach(1)
        world.recall("digits", 1)
        await device.verify(world.assignment("digits", 2))
        loop.trigger()
        await limits.reach(2)
        asked = len(world.asked)
        loop.trigger()
        await until(lambda: len(world.asked) > asked + 1)

    assert limits.count == 2


async def test_limits_that_could_not_be_told_are_told_again_long_before_the_next_refresh(
    world: World, device: DeviceUnderAttack
) -> None:
    limits = Turns()

    async def on_limits() -> None:
        await limits()
        if limits.count < 4:
            raise DiskFull("no room")

    began = world.clock.now()
    async with running(loop_of(world, device, on_limits)), asyncio.timeout(10):
        while limits.count < 4:
            world.clock.advance(seconds=1)
            await asyncio.sleep(0.001)

    assert (world.clock.now() - began).total_seconds() < 200  # of 300 until the next refresh


async def test_it_refreshes_again_when_the_interval_is_over(
    world: World, device: DeviceUnderAttack
) -> None:
    limits = Turns()
    async with running(loop_of(world, device, limits)):
        await limits.reach(1)
        world.publish(manifest("digits", 3))
        await until(lambda: world.asked.count("timestamp.json") == 1)
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while world.asked.count("timestamp.json") == 1:
                world.clock.advance(seconds=60)
                await asyncio.sleep(0.001)

    assert world.asked.count("timestamp.json") >= 2


async def test_it_goes_on_while_nobody_answers_and_when_it_is_attacked(
    world: World, device: DeviceUnderAttack
) -> None:
    limits = Turns()
    world.forged["2.root.json"] = TransportError("cut off")
    loop = loop_of(world, device, limits)
    async with running(loop):
        await limits.reach(1)
        world.forged = {"timestamp.json": b"nonsense"}
        loop.trigger()
        await until(lambda: "timestamp.json" in world.asked)
        world.forged = {}
        loop.trigger()
        await until(lambda: "targets.json" in device.versions())


async def test_a_controller_that_does_not_answer_is_logged_once_until_it_has_answered(
    world: World, device: DeviceUnderAttack, caplog: pytest.LogCaptureFixture
) -> None:
    loop = loop_of(world, device, Turns())
    with caplog.at_level(logging.INFO, "agent.trust.loop"):
        for answers in (False, False, True, False, False):
            world.forged = {} if answers else {"2.root.json": TransportError("cut off")}
            await loop._refresh()

    assert caplog.messages == ["trust.unreachable detail=cut off"] * 2


async def test_what_a_mirror_says_is_asked_again_long_before_the_next_refresh(
    world: World, device: DeviceUnderAttack, caplog: pytest.LogCaptureFixture
) -> None:
    """The mirror may be behind: the controller is to be asked as soon as it answers."""
    answers = False

    def controller(name: str) -> bytes:
        if not answers:
            raise TransportError("cut off")
        return world.fetch(name)

    device.trust = ImageTrust(device.store, world.clock, "1.4.0", mirror=world.fetch)
    rng = Random(7)  # noqa: S311 - jitter
    loop = RefreshLoop(device.trust, controller, Turns(), world.clock, rng, 3600)

    with caplog.at_level(logging.INFO, "agent.trust.actions"):
        sooner = [await loop._refresh() for _ in range(3)]
    answers = True

    assert "targets.json" in device.versions()
    assert max(sooner) < 60
    assert caplog.messages == ["trust.asks-mirror detail=cut off"]
    assert await loop._refresh() > 2000
