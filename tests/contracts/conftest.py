"""Every store, of the controller and of devices: a new database is one more parameter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.store.device_store import DeviceStore
from agent.store.spool_order import DEFAULT_LIMITS, SpoolLimits
from agent.store.sqlite_store import SqliteStore
from controller.store.sql import SqlStore
from controller.store.store import Store
from simulations.memory_device_store import Contents, MemoryDeviceStore
from simulations.memory_store import MemoryStore
from tests.contracts.device_stores import Opener


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    yield opened
    opened.close()


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the store; again, once it is closed, with what it held."""
    disk = Contents()
    stores: list[DeviceStore] = []

    def opener(limits: SpoolLimits = DEFAULT_LIMITS) -> DeviceStore:
        store: DeviceStore = (
            MemoryDeviceStore(limits, contents=disk)
            if request.param == "memory"
            else SqliteStore(tmp_path / "home", limits)
        )
        stores.append(store)
        return store

    yield opener
    for store in stores:
        store.close()
