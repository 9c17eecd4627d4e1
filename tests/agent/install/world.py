"""A device whose outside world does what a test says, in virtual time, and may lose power."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

from agent.errors import AgentError, Recalled
from agent.install.change import Change
from agent.install.fallback import MayRun
from agent.install.loop import InstallLoop
from agent.install.probation import ProbationPolicy
from agent.install.record import Deployed, Install, Slot, SlotKey
from agent.store.device_store import DeviceStore
from protos.documents import Assignment
from simulations.memory_device_store import Contents, MemoryDeviceStore
from simulations.power import Power, PowerCut, PoweredBlobs, PoweredStore
from tests.agent.install.outside import KEY, Outside, VirtualClock, directive
from tests.agent.install.pretend import (
    PretendDeployments,
    PretendFetcher,
    PretendSelfTest,
    PretendTrust,
)

T = TypeVar("T")
POLICY = ProbationPolicy(minimum_seconds=1, minimum_requests=10, maximum_seconds=5)
LIMIT = 30 * 86400.0
"""Seconds that a wait may take: longer is never."""


def runnable() -> bool:
    """Whether anything but the caller can run before time passes."""
    return bool(asyncio.get_running_loop()._ready)  # type: ignore[attr-defined]


async def inline(work: Callable[[], T], /) -> T:
    """Runs what waits for the disk on the event loop: tests are deterministic so."""
    await asyncio.sleep(0)
    return work()


def _inline(work: Callable[[], T], /) -> Awaitable[T]:
    return inline(work)


class Device:
    """One device from power-up to power-off; ``restarted`` is the next power-up."""

    def __init__(
        self,
        outside: Outside,
        power: Power | None = None,
        store: DeviceStore | None = None,
        blobs: PoweredBlobs | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.outside = outside
        self.power = power or Power()
        self.inner = store or MemoryDeviceStore(contents=Contents())
        self.blobs = PoweredBlobs(self.power, blobs)
        self.clock = VirtualClock(seconds)
        self.changes: list[Change] = []
        self.loads: list[Mapping[SlotKey, str]] = []
        self.on_change: Callable[[Change], None] = lambda _: None
        self.fetcher = PretendFetcher(outside, self.power, self.blobs)
        self.self_test = PretendSelfTest(outside, self.power)
        self.deployments = PretendDeployments(outside, self.power, self.blobs, self.clock)
        self.loop = InstallLoop(
            PoweredStore(self.inner, self.power),
            self.blobs,
            PretendTrust(outside, self.power),
            self.fetcher,
            self.self_test,
            self.deployments,
            lambda: outside.facts,
            self.clock,
            self._changed,
            policy=POLICY,
            rng=random.Random(1),  # noqa: S311 - a seed
            on_load=lambda: self.loads.append(self.loop.loaded()),
            opsets=lambda: outside.opsets,
            circumstances=outside.circumstances,
            offload=_inline,
        )
        self._task: asyncio.Task[None] | None = None

    def _changed(self, change: Change) -> None:
        self.changes.append(change)
        self.on_change(change)

    def restarted(self, power: Power | None = None) -> "Device":
        passed = self.clock.jumped + self.clock.seconds
        return Device(self.outside, power, self.inner, self.blobs, passed)

    def direct(self, generation: int, *assignments: Assignment) -> None:
        """A directive was accepted; the loop learns it if it runs."""
        self.inner.installs.save_directive(directive(generation, *assignments), generation)
        if self._task is not None:
            self.loop.wake()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the loop meanwhile."""
        self._task = asyncio.ensure_future(self.loop.run())
        try:
            yield
        finally:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def until(self, condition: Callable[[], bool], limit: float = LIMIT) -> None:
        """Lets the loop run, one turn at a time, until the condition holds or power goes."""
        assert self._task is not None
        while not (condition() or self._task.done()):
            await asyncio.sleep(0)
            if not runnable() and not condition() and not self._task.done():
                assert self.clock.pass_on(), "nobody waits for anything, and it does not hold"
                assert self.clock.seconds < limit, "it never holds"

    async def spin(self) -> None:
        """Lets everything run that can run without time passing."""
        while True:
            await asyncio.sleep(0)
            if not runnable():
                return

    async def settle(self) -> None:
        """Runs the loop until nothing is left to do, or power goes."""
        async with self.running():
            await asyncio.sleep(0)
            await self.until(lambda: self.loop.is_settled)
            if self.power.gone:
                return
            assert self._task is not None
            assert not self._task.done() or self._task.exception() is None

    async def enforce(self, may_run: MayRun) -> None:
        await self.loop.enforce(may_run)

    async def enforced(self, may_run: MayRun) -> bool:
        """Whether there was power enough to enforce it before anything runs."""
        try:
            await self.loop.enforce(may_run)
        except PowerCut:
            return False
        return True

    @property
    def install(self) -> Install:
        return next(one for one in self.inner.installs.installs() if one.key == KEY)

    @property
    def slot(self) -> Slot | None:
        return next((one for one in self.inner.installs.slots() if one.key == KEY), None)

    def versions(self) -> tuple[int | None, int | None]:
        """Versions that the slot calls active and committed."""
        slot = self.slot or Slot(*KEY)
        return (
            slot.active.version if slot.active else None,
            slot.committed.version if slot.committed else None,
        )

    def lost(self) -> list[str]:
        """Files that a slot needs and the disk has not."""
        pointed = [
            deployed
            for slot in self.inner.installs.slots()
            for deployed in (slot.active, slot.committed)
            if deployed is not None
        ]
        wanted = {
            sha256
            for deployed in pointed
            for sha256 in (
                deployed.manifest_sha256,
                *(
                    file.sha256
                    for file in self.outside.bundles[
                        deployed.manifest_sha256
                    ].manifest.needed.values()
                ),
            )
        }
        return [sha256 for sha256 in wanted if sha256 not in self.blobs.complete]


def recalling(*sha256s: str) -> MayRun:
    def may_run(deployed: Deployed) -> AgentError | None:
        recalled = deployed.manifest_sha256 in sha256s
        return Recalled(f"{deployed.model}/{deployed.version}") if recalled else None

    return may_run
