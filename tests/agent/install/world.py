"""A device whose outside world does what a test says, in virtual time, and may lose power."""

import asyncio
import contextlib
import hashlib
import heapq
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TypeVar

from agent.errors import AgentError, ModelLoadFailed, Recalled
from agent.inference.deployments import Standing, activated, committed, removed, reverted
from agent.install.change import Change
from agent.install.fallback import MayRun
from agent.install.gates import Battery, Circumstances
from agent.install.loop import InstallLoop
from agent.install.ports import SelfTestResult, TrafficSnapshot
from agent.install.probation import ProbationPolicy
from agent.install.record import Deployed, Install, Slot, SlotKey
from agent.store.blob_store import BlobStore
from agent.store.device_store import DeviceStore
from protos.documents import UNCONDITIONAL, Assignment, Conditions, Directive, canonical
from protos.manifest import Budgets, File, Manifest, Needs, Role, target_path
from protos.v1.common_pb2 import DeviceFacts, Envelope
from simulations.memory_device_store import Contents, MemoryDeviceStore
from simulations.power import Power, PowerCut, PoweredBlobs, PoweredStore

T = TypeVar("T")

KEY: SlotKey = ("digits", "champion")
POLICY = ProbationPolicy(minimum_seconds=1, minimum_requests=10, maximum_seconds=5)
STARTED = 1_700_000_000.0  # Tuesday, 2023-11-14 22:13:20 UTC
LIMIT = 30 * 86400.0
"""Seconds that a wait may take: longer is never."""
FACTS = DeviceFacts(
    agent_version="0.3.0",
    arch="x86_64",
    memory_bytes=1 << 30,
    disk_free_bytes=1 << 30,
    runtimes={"onnxruntime": "1.20.1"},
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A version as its makers have it: every file by its digest."""

    manifest: Manifest
    files: dict[str, bytes]

    @property
    def sha256(self) -> str:
        return self.manifest.digest

    def assignment(
        self,
        slot: str = "champion",
        rollout: str = "",
        conditions: Conditions = UNCONDITIONAL,
        attempt: int = 1,
        soak: int = 0,
    ) -> Assignment:
        manifest = self.manifest
        return Assignment(
            model=manifest.model,
            version=manifest.version,
            target=target_path(manifest.model, manifest.version),
            sha256=self.sha256,
            length=len(manifest.encode()),
            slot=slot,
            rollout=rollout,
            conditions=conditions,
            attempt=attempt,
            soak_seconds=soak,
        )


def bundle(model: str = "digits", version: int = 1, needs: Needs | None = None) -> Bundle:
    files = {role: f"{model} {version} {role}".encode() * 3 for role in list(Role)[:4]}
    manifest = Manifest(
        model=model,
        version=version,
        release_counter=version,
        inputs=(),
        outputs=(),
        files={role: File(sha256=digest(data), length=len(data)) for role, data in files.items()},
        needs=needs or Needs(),
        budgets=Budgets(latency_p99_seconds=0.01, memory_bytes=1 << 20),
    )
    blobs = {digest(data): data for data in files.values()}
    return Bundle(manifest, {**blobs, manifest.digest: manifest.encode()})


def directive(generation: int, *assignments: Assignment) -> bytes:
    document = Directive(
        device="dev-1", generation=generation, issued_at=0, assignments=assignments
    )
    return Envelope(
        payload=canonical(document), payload_type=Directive.payload_type
    ).SerializeToString()


class VirtualClock:
    """Time that passes when everybody waits for it; ``jumped`` is how far the wall clock was put."""

    def __init__(self, jumped: float = 0.0) -> None:
        self.seconds = 0.0
        self.jumped = jumped
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return datetime.fromtimestamp(STARTED + self.jumped + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.seconds + seconds, self._count, future))
        await future

    def pass_on(self) -> bool:
        """Wakes the next sleeper; False if nobody sleeps."""
        while self._sleepers:
            at, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.seconds = max(self.seconds, at)
                future.set_result(None)
                return True
        return False


@dataclass
class Outside:
    """What the world will do. Errors are given once each, then the thing works.

    Attributes:
        bundles: what can be had, by the digest of the manifest.
        refusals: trust's answer to that manifest, every time.
        errors: by name of the step ("fetch", "self-test", "prepare", "verify"), what happens first.
        failing: manifests whose self-test fails.
        bad_in_service: manifests that fail half of their requests.
        unloadable: manifests that no runtime can load.
        zone, battery, metered: what the device is in.
    """

    bundles: dict[str, Bundle] = field(default_factory=dict)
    refusals: dict[str, AgentError] = field(default_factory=dict)
    errors: dict[str, list[Exception]] = field(default_factory=dict)
    failing: dict[str, AgentError] = field(default_factory=dict)
    bad_in_service: set[str] = field(default_factory=set)
    unloadable: set[str] = field(default_factory=set)
    facts: DeviceFacts = field(default_factory=lambda: FACTS)
    opsets: dict[str, int] = field(default_factory=dict)
    zone: tzinfo = UTC
    battery: Battery | None = None
    metered: bool = False

    def circumstances(self, now: datetime) -> Circumstances:
        return Circumstances(now.astimezone(self.zone), self.battery, self.metered)

    def add(self, *bundles: Bundle) -> None:
        for one in bundles:
            self.bundles[one.sha256] = one

    def first(self, step: str) -> None:
        waiting = self.errors.get(step)
        if waiting:
            raise waiting.pop(0)

    def blob(self, sha256: str) -> bytes:
        return next(one.files[sha256] for one in self.bundles.values() if sha256 in one.files)


@dataclass(frozen=True)
class Verified:
    manifest: Manifest
    approvals: int


@dataclass
class PretendTrust:
    outside: Outside
    power: Power

    async def verify(self, assignment: Assignment) -> Verified:
        self.power.step("verify")
        await asyncio.sleep(0)
        self.outside.first("verify")
        if assignment.sha256 in self.outside.refusals:
            raise self.outside.refusals[assignment.sha256]
        return Verified(self.outside.bundles[assignment.sha256].manifest, 2)


@dataclass
class PretendFetcher:
    """Brings a blob in two pieces, and stops between them if it is told to."""

    outside: Outside
    power: Power
    blobs: BlobStore
    fetched: list[str] = field(default_factory=list)

    async def fetch(self, sha256: str, length: int) -> None:
        self.power.step("fetch")
        self.fetched.append(sha256)
        data = self.outside.blob(sha256)
        writer = self.blobs.writer(sha256, length)
        with contextlib.closing(writer):
            middle = max(writer.offset, len(data) // 2)
            writer.write(data[writer.offset : middle])
            await asyncio.sleep(0)
            self.outside.first("fetch")
            writer.write(data[writer.offset :])
            writer.finish()


@dataclass
class PretendSelfTest:
    outside: Outside
    power: Power
    ran: list[int] = field(default_factory=list)

    async def run(self, manifest: Manifest) -> SelfTestResult:
        self.power.step("self-test")
        self.ran.append(manifest.version)
        await asyncio.sleep(0)
        self.outside.first("self-test")
        if manifest.digest in self.outside.failing:
            raise self.outside.failing[manifest.digest]
        return SelfTestResult(p99_seconds=0.001, peak_memory_bytes=1000, max_difference=0.0)


@dataclass
class PretendDeployments:
    """Models are their manifests; loading one reads its file from the blob store.

    Attributes:
        gaps: how often a slot that answered did not any more, while it was to go on.
    """

    outside: Outside
    power: Power
    blobs: BlobStore
    clock: VirtualClock
    candidates: dict[str, Deployed] = field(default_factory=dict)
    slots: dict[SlotKey, Standing[Deployed]] = field(default_factory=dict)
    since: dict[SlotKey, float] = field(default_factory=dict)
    loads: list[int] = field(default_factory=list)
    history: list[tuple[SlotKey, int | None]] = field(default_factory=list)

    async def prepare(self, deployed: Deployed, manifest: Manifest) -> None:
        self.power.step("prepare")
        self.loads.append(deployed.version)
        await asyncio.sleep(0)
        self.outside.first("prepare")
        if deployed.manifest_sha256 in self.outside.unloadable:
            raise ModelLoadFailed(f"{manifest.reference}: not a model")
        self.blobs.read(deployed.model_sha256)
        self.candidates[deployed.model] = deployed

    def activate(self, model: str, slot: str) -> None:
        self.power.step("activate")
        candidate = self.candidates.pop(model, None)
        if candidate is None:
            raise ModelLoadFailed(f"no version of model {model!r} is prepared")
        self._set((model, slot), activated(self._standing(model, slot), candidate).standing)

    def release_previous(self, model: str, slot: str) -> None:
        self._set((model, slot), committed(self._standing(model, slot)).standing, again=False)

    def revert(self, model: str, slot: str) -> None:
        self.power.step("revert")
        standing = self._standing(model, slot)
        if standing.proven:
            self.candidates.pop(model, None)
        else:
            self._set((model, slot), reverted(standing).standing)

    def remove(self, model: str, slot: str) -> None:
        self.power.step("remove")
        self._set((model, slot), removed(self._standing(model, slot)).standing)

    def traffic(self, model: str, slot: str) -> TrafficSnapshot:
        """Ten requests a second."""
        active = self._standing(model, slot).active
        assert active is not None
        requests = int((self.clock.monotonic() - self.since[model, slot]) * 10)
        bad = active.manifest_sha256 in self.outside.bad_in_service
        return TrafficSnapshot(requests, requests // 2 if bad else 0, 0.001)

    def answers(self, key: SlotKey = KEY) -> int | None:
        active = self._standing(*key).active
        return active.version if active else None

    def _standing(self, model: str, slot: str) -> Standing[Deployed]:
        return self.slots.get((model, slot), Standing())

    def _set(self, key: SlotKey, standing: Standing[Deployed], *, again: bool = True) -> None:
        self.slots[key] = standing
        if again:
            self.since[key] = self.clock.monotonic()
            self.history.append((key, standing.active.version if standing.active else None))


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
            for sha256 in self.outside.bundles[deployed.manifest_sha256].files
        }
        return [sha256 for sha256 in wanted if sha256 not in self.blobs.complete]


def recalling(*sha256s: str) -> MayRun:
    def may_run(deployed: Deployed) -> AgentError | None:
        recalled = deployed.manifest_sha256 in sha256s
        return Recalled(f"{deployed.model}/{deployed.version}") if recalled else None

    return may_run
