"""A device that is told tasks, over a controller in memory."""

import pytest

from tests.agent.federated.world import Device, Orders


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def orders(device: Device) -> Orders:
    return Orders(device.intake)
