"""Real processes: quick to start, seen when they fail, and ended whatever happens."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulations.demo.stage import Pace
from tests.end_to_end.fleet import Fleet

MakeFleet = Callable[..., Fleet]


@pytest.fixture(scope="session", autouse=True)
def quick_starts() -> Iterator[None]:
    """Compiled modules are kept, so that the many processes of these tests do not compile anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(scope="module")
def make_fleet(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> Iterator[MakeFleet]:
    """Makes a fleet whose processes end with the module's last test."""
    made: list[Fleet] = []

    def make(devices: int, pace: Pace | None = None, **settings: Any) -> Fleet:
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), devices, pace, **settings)
        made.append(fleet)
        fleet.open()
        return fleet

    yield make
    for fleet in made:
        fleet.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the ends of its processes' logs."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for fleet in (one for one in item.funcargs.values() if isinstance(one, Fleet)):
            for daemon in fleet.stage.daemons():
                report.sections.append((f"log of {daemon.name}", daemon.last_words(60)))
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: the demo and the README's walk on one worker, the rest on another.

    So nobody waits for them at the end, they wait while others calculate, and few fleets are made
    twice, for workers that take tests over take the last ones first. Each worker gets a share of the
    list, in its order.
    """
    here = Path(__file__).parent
    named = [here / name for name in ("test_demo.py", "test_readme.py")]
    longest = [item for item in items if item.path in named]
    others = [item for item in items if item.path not in named]
    others.sort(key=lambda item: item.path.parent != here)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    second = len(items) // workers if workers > 1 else 0
    items[:] = [*others[:second], *longest, *others[second:]]
