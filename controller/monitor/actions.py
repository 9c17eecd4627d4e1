"""Somebody asked: what do a model's data look like now, over the fleet and on each device?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.monitor.finding import Finding, Verdict
from agent.monitor.reference import Reference, read_reference
from controller.errors import InvalidInput, NotFound
from controller.monitor.fleet import DeviceDrift, FleetDrift, judge_fleet
from controller.monitor.merge import ClosedWindow, latest, merged, read_stored
from controller.store.blob_store import BlobStore
from controller.store.store import Store, Transaction
from controller.telemetry.record import StoredWindow
from protos.errors import DocumentError
from protos.manifest import Role, read_manifest


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device of a drift report.

    Attributes:
        verdict: of its newest windows, judged now, in the light of the whole fleet.
        broken: unlike the rest of the fleet's.
        told: what the device itself said of its newest window.
        rows, windows: how many predictions in how many windows that is.
        last_ended_ms: end of its newest window, Unix time.
    """

    device: str
    verdict: Verdict
    broken: bool
    told: Verdict
    rows: int
    windows: int
    last_ended_ms: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What ``muster drift show NAME`` shows.

    Attributes:
        verdict: of the fleet's merged counts without the broken devices; ``insufficient_data``
            also while fewer than two devices have told anything.
        rows: how many predictions were merged for that.
        windows: how many windows are stored in all.
        findings: what moved over the fleet, the largest first.
        sentences: all of it for a person.
    """

    model: str
    version: int
    profile_sha256: str
    verdict: Verdict
    rows: int
    windows: int
    last_ended_ms: int
    findings: tuple[Finding, ...]
    devices: tuple[DeviceRow, ...]
    sentences: tuple[str, ...]


def drift_report(
    store: Store, blobs: BlobStore, model: str, *, version: int | None = None, since_ms: int = 0
) -> DriftReport:
    """The data of one version of ``model``, the newest that devices told of unless one is named.

    Of each device its newest windows count, as few as are enough to judge by. A window of a version
    that is not registered, or of another profile than that version's, counts for nothing: one device
    that tells such things must not hide what the others saw. Blocks.

    Raises:
        NotFound: no such model, or no device has told of it since ``since_ms``.
        InvalidInput: what is stored can't be read.
    """
    with store.begin() as tx:
        if tx.registry.model(model) is None:
            raise NotFound(f"no model {model!r}")
        profiles = _profiles(tx, model)
        told = tx.telemetry.windows(model, version, since_ms=since_ms)
    stored = [window for window in told if profiles.get(window.version) == window.profile_sha256]
    if not stored:
        which = model if version is None else f"{model}/{version}"
        raise NotFound(f"no device has told of {which}'s data yet")
    chosen = max(window.version for window in stored)
    reference = _reference(blobs, profiles[chosen])
    of_version = [window for window in stored if window.version == chosen]
    newest = {
        device: fitting
        for device, windows in latest(of_version, reference.policy.n_min).items()
        if (fitting := _fitting(reference, windows))
    }
    counts = {
        device: total
        for device, windows in newest.items()
        if (total := merged(window.counts for window in windows)) is not None
    }
    return _report(model, of_version, newest, judge_fleet(reference, counts))


def _profiles(tx: Transaction, model: str) -> Mapping[int, str]:
    """By version, the digest of its reference profile."""
    return {
        one.version: read_manifest(one.manifest).files[Role.REFERENCE].sha256
        for one in tx.registry.versions(model)
    }


def _fitting(reference: Reference, windows: Sequence[StoredWindow]) -> Sequence[ClosedWindow]:
    """Those that tell of just the reference's series."""
    read = [read_stored(one) for one in windows]
    return [one for one in read if len(one.counts.cells) == len(reference.series)]


def _reference(blobs: BlobStore, profile: str) -> Reference:
    try:
        return read_reference(b"".join(blobs.read(profile)))
    except DocumentError as error:
        raise InvalidInput(f"reference profile {profile[:12]}: {error}") from error


def _report(
    model: str,
    stored: Sequence[StoredWindow],
    newest: Mapping[str, Sequence[ClosedWindow]],
    fleet: FleetDrift,
) -> DriftReport:
    return DriftReport(
        model=model,
        version=stored[0].version,
        profile_sha256=stored[0].profile_sha256,
        verdict=fleet.world.verdict,
        rows=fleet.world_rows,
        windows=len(stored),
        last_ended_ms=max(window.ended_ms for window in stored),
        findings=fleet.world.findings,
        devices=tuple(_device_row(one, newest[one.device]) for one in fleet.devices),
        sentences=fleet.sentences,
    )


def _device_row(drift: DeviceDrift, windows: Sequence[ClosedWindow]) -> DeviceRow:
    return DeviceRow(
        device=drift.device,
        verdict=drift.judgement.verdict,
        broken=drift.broken,
        told=windows[0].verdict,
        rows=drift.rows,
        windows=len(windows),
        last_ended_ms=windows[0].ended_ms,
        findings=drift.judgement.findings,
    )
