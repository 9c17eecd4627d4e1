"""A store that knows one device."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store.sql import SqlStore
from controller.store.store import Store
from simulations.memory_store import MemoryStore
from tests.controller.telemetry.uploads import KEY, enrol


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    enrol(opened, "dev-1", KEY)
    yield opened
    opened.close()
