"""A world that has three versions; where others are wanted, a file has its own."""

import pytest

from tests.agent.install.outside import Outside
from tests.agent.install.running import ONE, THREE, TWO


@pytest.fixture
def outside() -> Outside:
    world = Outside()
    world.add(ONE, TWO, THREE)
    return world
