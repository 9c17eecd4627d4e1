"""One door to join at for each file of tests, and a machine for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.cli.machine import Agent, Gate


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Agent:
    return Agent(monkeypatch, tmp_path / "device")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(tmp_path_factory.mktemp("gate"))
    yield made
    made.close()


@pytest.fixture
def enrolled(agent: Agent, gate: Gate) -> Agent:
    done = agent("enrol", gate.token(), "--name", "cam-1")
    assert done.status == 0, done
    return agent
