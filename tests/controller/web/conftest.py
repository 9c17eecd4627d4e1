from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulations.memory_store import MemoryStore
from tests.controller.web.api import Api, running


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(MemoryStore(), tmp_path) as made:
        yield made
