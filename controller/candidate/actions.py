"""Makes a version of what a run has brought: from then on it is a version like any other."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import psutil

from agent.monitor.counts import Counts
from agent.runtimes.runtime import Runtime
from controller.candidate.errors import NoCandidate
from controller.candidate.gates import candidate_gates
from controller.candidate.preparation import TrainedParent, given_by_people, prepare
from controller.candidate.trained import Trained
from controller.monitor.actions import healthy_windows
from controller.registry import card
from controller.registry.actions import insert, show_version, silent
from controller.registry.bundle import Demands
from controller.registry.gates import Gate
from controller.registry.preparation import Prepared
from controller.registry.registration import Registered, Registration
from controller.registry.trial import Gauges
from controller.registry.version import State, Version
from controller.signing.proposals import propose_if_possible
from controller.signing.publication import Act
from controller.store.blob_store import BlobStore
from controller.store.store import Store
from protos.manifest import Manifest, Role, read_manifest

_GAUGES: Final = Gauges(
    seconds=time.perf_counter, resident_bytes=lambda: int(psutil.Process().memory_info().rss)
)

ENOUGH_ROWS: Final = 1000

log = logging.getLogger(__name__)


Preparing = Callable[[TrainedParent, Trained, Sequence[Counts], int], Prepared]
"""What ``preparation.prepare`` does, wherever that is done; the number seeds the calibration."""


@dataclass(frozen=True, slots=True)
class Means:
    """What registering needs of the world; thresholds are calibrated by chance from ``seed``."""

    store: Store
    blobs: BlobStore
    preparing: Preparing
    seed: int


def here(runtime: Runtime) -> Preparing:
    """Prepares in this very process."""

    def prepared(
        parent: TrainedParent, trained: Trained, windows: Sequence[Counts], seed: int
    ) -> Prepared:
        rng = np.random.default_rng(seed)
        return prepare(runtime, parent, trained, windows, _GAUGES, rng, silent)

    return prepared


def register_candidate(
    means: Means,
    parent: str,
    trained: Trained,
    actor: str,
    now: float,
    *,
    gates: Gate | None = None,
    since_ms: int = 0,
) -> Registered:
    """The candidate as the model's next version: validated and waiting for its approvers, or rejected.

    Asked for the same run again, it returns the version that is there. Takes seconds; blocks.

    Args:
        means: where it is registered.
        parent: the version that was trained on, "digits/3".
        trained: what the run has brought.
        actor: who is said to have registered it: whoever started the run.
        now: Unix seconds.
        gates: what it must pass; None for ``candidate_gates()``.
        since_ms: windows that ended earlier count only where the later ones are too few; Unix
            milliseconds.

    Raises:
        NoCandidate: the run's parameters do not fit the parent. Nothing is stored.
        NotFound, InvalidInput: there is no such parent.
        BadModel: the runtime can't run what came of it.
        Interrupted: what prepared it went down.
    """
    store, blobs = means.store, means.blobs
    with store.read() as tx:
        manifest = show_version(tx, parent).manifest
        versions = [read_manifest(one.manifest) for one in tx.registry.versions(manifest.model)]
    there = next((one for one in versions if one.lineage.training_run == trained.run), None)
    act = Act(actor, datetime.fromtimestamp(now, UTC))
    if there is not None:  # whoever registered it may have been killed before it was proposed
        found = _registered(store, there)
        _propose(store, found.version, act)
        return found
    given = given_by_people(manifest, versions)
    bundle = TrainedParent(manifest, _files(blobs, manifest, given), given.reference)
    windows = _windows(store, blobs, manifest, since_ms)
    prepared = means.preparing(bundle, trained, windows, means.seed)
    request = _request(bundle, trained, gates or candidate_gates())
    registered = insert(store, blobs, request, prepared, actor, now)
    _propose(store, registered.version, act)
    log.info(
        "candidate.registered version=%s parent=%s run=%s",
        registered.manifest.reference,
        parent,
        trained.run,
    )
    return registered


def _propose(store: Store, version: Version, act: Act) -> None:
    if version.state is State.VALIDATED:
        with store.begin() as tx:
            propose_if_possible(tx, version, act)


def _registered(store: Store, manifest: Manifest) -> Registered:
    with store.read() as tx:
        return Registered(show_version(tx, manifest.reference).version, manifest, ())


def _files(blobs: BlobStore, manifest: Manifest, given: Manifest) -> dict[Role, bytes]:
    """The parent's, but for the golden rows: those are of the version that people have ``given``.

    Each version takes of the rows before it only those that it answers clearly: from candidate to
    candidate they would become fewer and fewer.
    """
    if Role.TRAIN_STEP not in manifest.files:
        raise NoCandidate(f"{manifest.reference} has no train step")
    wanted = (Role.MODEL, Role.TRAIN_STEP, Role.REFERENCE, Role.CARD)
    files = {role: manifest.files[role] for role in wanted}
    files[Role.GOLDEN] = given.files[Role.GOLDEN]
    return {role: b"".join(blobs.read(one.sha256)) for role, one in files.items()}


def _windows(store: Store, blobs: BlobStore, manifest: Manifest, since_ms: int) -> Sequence[Counts]:
    """The newest of each device that is like the others."""
    for since in (since_ms, 0):
        by_device = healthy_windows(store, blobs, manifest, since_ms=since)
        found = [window for windows in by_device.values() for window in windows]
        if sum(one.rows for one in found) >= ENOUGH_ROWS:
            break
    return found


def _request(parent: TrainedParent, trained: Trained, gates: Gate) -> Registration:
    """As a person would have asked for it: what its author wrote of the parent holds of it, too."""
    manifest = parent.manifest
    return Registration(
        model=manifest.model,
        onnx=b"",
        reference=b"",
        onnx_name=f"what {trained.run} has trained",
        reference_name="what devices told",
        text=card.author_text(parent.files[Role.CARD]),
        demands=Demands(arch=manifest.needs.arch, minimum_agent=manifest.minimum_agent),
        gates=gates,
        parent=manifest.version,
        training_run=trained.run,
        round=trained.round,
        git_commit=manifest.lineage.git_commit,
    )
