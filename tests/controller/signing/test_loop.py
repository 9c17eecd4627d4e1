import asyncio

from controller.signing.loop import ResignLoop
from controller.signing.publication import OnlineSigners
from simulations.memory_store.store import MemoryStore
from tests.attacks.world import DeviceUnderAttack, World, manifest, new_key, outcome


def version(world: World) -> int:
    number = world.current("timestamp").signed.version
    assert isinstance(number, int)
    return number


async def test_it_looks_again_when_the_next_signature_is_due(world: World) -> None:
    loop = ResignLoop(world.store, world.keys.online, world.clock)

    assert await loop.once() == 3600
    world.clock.advance(hours=11, minutes=50)
    assert 0 < await loop.once() <= 600
    before = version(world)
    world.clock.advance(minutes=10)
    assert await loop.once() == 3600
    assert version(world) == before + 1


async def test_a_fleet_that_nobody_touches_stays_fresh(world: World) -> None:
    device = DeviceUnderAttack(world)
    loop = ResignLoop(world.store, world.keys.online, world.clock)
    for _ in range(40):
        await loop.once()
        assert await outcome(device.verify(world.assignment("digits", 1))) == "accepted"
        world.clock.advance(hours=6)

    assert version(world) >= 18


async def test_it_goes_on_after_a_failure(world: World) -> None:
    before = version(world)
    broken = ResignLoop(world.store, OnlineSigners(new_key(), new_key()), world.clock)
    world.clock.advance(days=1)
    task = asyncio.create_task(broken.run())
    await asyncio.sleep(0)
    broken._online = world.keys.online
    async with asyncio.timeout(10):
        while version(world) == before:
            world.clock.advance(seconds=10)
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_a_repository_there_is_nothing_to_do(world: World) -> None:
    assert await ResignLoop(MemoryStore(), world.keys.online, world.clock).once() == 3600


async def test_it_never_signs_what_was_not_there(world: World) -> None:
    loop = ResignLoop(world.store, world.keys.online, world.clock)
    world.register(manifest("digits", 2))
    world.propose("digits", 2)
    world.clock.advance(days=5)

    await loop.once()

    assert world.current("models-digits").signed.version == 1
    assert list(world.current("models-digits").signed.targets) == ["models/digits/1.json"]
