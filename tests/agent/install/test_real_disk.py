"""The loop on the real store, the real blob folder, real threads and the machine's clock."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import SelfTestMismatch
from agent.install.change import Change
from agent.install.loop import InstallLoop
from agent.install.machine import State
from agent.install.probation import ProbationPolicy
from agent.store.blob_folder import BlobFolder
from agent.store.sqlite_store import SqliteStore
from protos.v1.common_pb2 import DeviceFacts
from simulations.power import Power
from tests.agent.install.outside import FACTS, KEY, Outside, VirtualClock, bundle, directive
from tests.agent.install.pretend import (
    PretendDeployments,
    PretendFetcher,
    PretendSelfTest,
    PretendTrust,
)

ONE, TWO = bundle(version=1), bundle(version=2)
POLICY = ProbationPolicy(minimum_seconds=0, maximum_seconds=0, check_seconds=0.001)


class Disk:
    """An agent's home, and a loop over it for every run."""

    def __init__(self, home: Path) -> None:
        self.outside = Outside()
        self.outside.add(ONE, TWO)
        self.store = SqliteStore(home)
        self.blobs = BlobFolder(home / "blobs")
        self.changes: list[str] = []

    async def run(self) -> PretendDeployments:
        """One run of the agent until nothing is left to do."""
        power = Power()
        deployments = PretendDeployments(self.outside, power, self.blobs, VirtualClock())

        def on_change(change: Change) -> None:
            self.changes.append(f"{change.name} {change.version}")

        def facts() -> DeviceFacts:
            return FACTS

        loop = InstallLoop(
            self.store, self.blobs, PretendTrust(self.outside, power),
            PretendFetcher(self.outside, power, self.blobs),
            PretendSelfTest(self.outside, power), deployments, facts, SystemClock(), on_change,
            policy=POLICY,
        )  # fmt: skip
        task = asyncio.ensure_future(loop.run())
        async with asyncio.timeout(20):
            while not loop.is_settled:  # noqa: ASYNC110 - a condition, with a deadline
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        return deployments

    def close(self) -> None:
        self.store.close()
        self.blobs.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    opened = Disk(tmp_path / "home")
    yield opened
    opened.close()


async def test_versions_come_and_fail_on_a_real_disk(disk: Disk, tmp_path: Path) -> None:
    disk.store.installs.save_directive(directive(1, ONE.assignment()), 1)
    assert (await disk.run()).answers(KEY) == 1
    disk.outside.failing[TWO.sha256] = SelfTestMismatch("off")
    disk.store.installs.save_directive(directive(2, TWO.assignment()), 2)
    assert (await disk.run()).answers(KEY) == 1
    disk.close()

    again = Disk(tmp_path / "home")
    assert (await again.run()).answers(KEY) == 1
    (install,) = again.store.installs.installs()
    assert (install.state, install.code) == (State.FAILED, "self-test-mismatch")
    assert again.store.installs.quarantined(TWO.sha256) is not None
    assert all(again.blobs.has(sha256) for sha256 in ONE.files)
    assert not any(again.blobs.has(sha256) for sha256 in TWO.files)

    again.store.installs.save_directive(directive(3), 3)
    assert (await again.run()).answers(KEY) is None
    assert again.changes == ["slot.retired 0"]
    again.close()
