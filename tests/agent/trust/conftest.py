import pytest

from tests.attacks.world import DeviceUnderAttack, World, manifest


@pytest.fixture
def world() -> World:
    """Digits 1 and 2 are published."""
    world = World()
    world.publish(manifest("digits", 1))
    world.publish(manifest("digits", 2))
    return world


@pytest.fixture
def device(world: World) -> DeviceUnderAttack:
    return DeviceUnderAttack(world)
