"""The world outside a device: time, links, files and models, as a test says."""

import asyncio
import hashlib
import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

import numpy as np
from msgspec.structs import replace

from agent.errors import AgentError
from agent.install.gates import Battery, Circumstances
from agent.install.record import SlotKey
from protos.documents import UNCONDITIONAL, Assignment, Conditions, Directive, canonical
from protos.int8_step import Int8Step
from protos.manifest import Budgets, File, Lineage, Manifest, Needs, Role, target_path
from protos.model_step import Move, encoded
from protos.train_step import renamed
from protos.v1.common_pb2 import DeviceFacts, Envelope

KEY: SlotKey = ("digits", "champion")
STARTED = 1_700_000_000.0  # Tuesday, 2023-11-14 22:13:20 UTC
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


def stepped(parent: Bundle, version: int) -> Bundle:
    """A version whose model was made as its parent's and an int8 step."""
    files = {role: f"digits {version} {role}".encode() * 3 for role in list(Role)[:4]}
    old = parent.manifest.files[Role.MODEL].sha256
    move = Move(4, Int8Step(np.float32(0.5), np.array([version, -1], np.int8)))
    files[Role.MODEL], files[Role.MODEL_STEP] = encoded(parent.files[old], [move])
    train = parent.manifest.files.get(Role.TRAIN_STEP)
    if train is not None:
        graph = parent.files[train.sha256]
        files[Role.TRAIN_STEP] = renamed(graph, old, digest(files[Role.MODEL]))
    lineage = Lineage(
        parent=parent.manifest.version,
        parent_model=old,
        parent_train_step=train.sha256 if train else "",
    )
    return _bundle(parent.manifest, version, files, lineage)


def trainable(of: Bundle) -> Bundle:
    """The same version with a train step for its model."""
    files = {role: of.files[file.sha256] for role, file in of.manifest.files.items()}
    model = of.manifest.files[Role.MODEL].sha256
    files[Role.TRAIN_STEP] = b"a graph that trains " + model.encode() + b" and nothing else"
    return _bundle(of.manifest, of.manifest.version, files, of.manifest.lineage)


def _bundle(like: Manifest, version: int, files: dict[Role, bytes], lineage: Lineage) -> Bundle:
    manifest = replace(
        like,
        version=version,
        release_counter=version,
        files={role: File(sha256=digest(data), length=len(data)) for role, data in files.items()},
        lineage=lineage,
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
        lacking: blobs that can't be fetched, and what is said then.
        zone, battery, metered: what the device is in.
    """

    bundles: dict[str, Bundle] = field(default_factory=dict)
    refusals: dict[str, AgentError] = field(default_factory=dict)
    errors: dict[str, list[Exception]] = field(default_factory=dict)
    failing: dict[str, AgentError] = field(default_factory=dict)
    bad_in_service: set[str] = field(default_factory=set)
    unloadable: set[str] = field(default_factory=set)
    lacking: dict[str, AgentError] = field(default_factory=dict)
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
