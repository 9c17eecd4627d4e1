import pytest

from tests.attacks.world import World, manifest


@pytest.fixture
def world() -> World:
    """Digits 1 is published; its approvers are three, and two must sign."""
    world = World()
    world.publish(manifest("digits", 1))
    return world
