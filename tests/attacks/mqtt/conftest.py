import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.attacks.mqtt.fleet import Fleet, fleet_at_a_bad_broker


@pytest.fixture(autouse=True)
def calm(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a broker sends, nobody stumbles: no errors, but that a directive was refused."""
    yield
    errors = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
    assert [one for one in errors if not one.startswith("directive.refused")] == []


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """One controller at a broker that lies as the test wishes; devices dial when it says so."""
    async with fleet_at_a_bad_broker(tmp_path) as fleet:
        await fleet.controller()
        yield fleet
