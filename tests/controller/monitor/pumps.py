"""A controller with two versions of a model of pumps, and what devices told of their data."""

import numpy as np

from agent.inference.latency import BUCKETS
from agent.inference.traffic import TrafficCounts
from agent.monitor.reference import CELLS
from agent.monitor.verdict import judge
from agent.monitor.window import OpenWindow
from agent.monitor.wire import window_message
from controller.fleet.device import SlotState
from controller.registry.version import Model, State, Version
from controller.telemetry.record import StoredWindow
from protos.manifest import Budgets, File, Manifest, Needs, Role
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.agent.monitor import profiles

REFERENCE = profiles.reference()
TRAFFIC = (
    TrafficCounts(12, 1, 2, (0, 7, 4, *(0,) * (BUCKETS - 3)), 0.5),
    TrafficCounts(3, 0, 1, (0, 3, *(0,) * (BUCKETS - 2)), 0.25),
)


def stored(
    device: str,
    sequence: int,
    rows: int = 300,
    shift: float = 0.0,
    version: int = 1,
    profile: str = REFERENCE.digest,
    series: int = len(REFERENCE.series),
    traffic: TrafficCounts = TRAFFIC[0],
) -> StoredWindow:
    counts = profiles.window(
        np.random.default_rng([sequence, rows, *map(ord, device)]), rows, shift=shift
    )
    judgement = judge(REFERENCE, counts)
    name = f"{device}-{sequence}"
    window = OpenWindow(name, "pump", version, "a" * 64, 1000 * sequence, counts, traffic)
    message = window_message(window, 1000 * sequence + 500, judgement)
    message.profile_sha256 = profile
    del message.counts[series * CELLS :], message.sums[series * 4 :]
    return StoredWindow(
        device=device,
        spool="s",
        sequence=sequence,
        model="pump",
        version=version,
        profile_sha256=profile,
        window_id=name,
        started_ms=window.started_ms,
        ended_ms=1000 * sequence + 500,
        rows=rows,
        verdict=message.verdict,
        payload=message.SerializeToString(),
    )


def registered(number: int) -> Version:
    files = {role: File(sha256=f"{number:064x}", length=1) for role in Role}
    manifest = Manifest(
        model="pump",
        version=number,
        release_counter=number,
        inputs=(),
        outputs=(),
        files=files | {Role.REFERENCE: File(sha256=REFERENCE.digest, length=1)},
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=1.0, memory_bytes=1),
    )
    return Version(
        model="pump",
        version=number,
        state=State.PUBLISHED,
        manifest=manifest.encode(),
        manifest_sha256=manifest.digest,
        registered_at=0.0,
        registered_by="ada",
    )


def controller(windows: list[StoredWindow]) -> tuple[MemoryStore, MemoryControllerBlobs]:
    store, blobs = MemoryStore(), MemoryControllerBlobs()
    blobs.put(REFERENCE.encode())
    with store.begin() as tx:
        tx.registry.put_model(Model(name="pump", created_at=0.0, threshold=1))
        for number in (1, 2):
            tx.registry.put_version(registered(number))
        tx.telemetry.add_windows(windows)
    return store, blobs


def slot(name: str, model: str, version: int, running: bool) -> SlotState:
    return SlotState(
        device=name,
        model=model,
        slot="champion",
        version=version,
        running=running,
        state="committed",
        manifest_sha256="a" * 64,
        model_sha256="b" * 64,
        approvals=1,
        generation=1,
        counter=1,
        reported_at=0.0,
    )
