"""What surrounds the installing of versions on a device, each answering as the world outside says."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from agent.errors import ModelLoadFailed
from agent.inference.deployments import Standing, activated, committed, removed, reverted
from agent.install.ports import SelfTestResult, TrafficSnapshot
from agent.install.record import Deployed, SlotKey
from agent.store.blob_store import BlobStore
from protos.documents import Assignment
from protos.manifest import Manifest
from simulations.power import Power
from tests.agent.install.outside import KEY, Outside, VirtualClock


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
        if sha256 in self.outside.lacking:
            raise self.outside.lacking[sha256]
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
