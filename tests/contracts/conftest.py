"""Every store of the controller: a new database is one more parameter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store.sql import SqlStore
from controller.store.store import Store
from simulations.memory_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    yield opened
    opened.close()
