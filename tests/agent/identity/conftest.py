"""A controller, and a machine that is no device yet."""

from pathlib import Path

import pytest

from simulations.memory_device_store import MemoryDeviceStore
from tests.agent.identity.enrolment import Controller


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def store() -> MemoryDeviceStore:
    return MemoryDeviceStore()


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    return tmp_path / "device" / "key.pem"
