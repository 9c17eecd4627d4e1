"""Somebody asked: what do a model's data look like now, over the fleet and on each device?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from agent.inference.traffic import TrafficCounts
from agent.monitor.counts import Counts
from agent.monitor.finding import Finding, Verdict
from agent.monitor.reference import Reference, read_reference
from agent.monitor.window import together
from controller.errors import InvalidInput, NotFound
from controller.fleet.device import DeviceStatus
from controller.monitor.fleet import DeviceDrift, judge_fleet
from controller.monitor.merge import ClosedWindow, merged, middle, read_stored, thinned
from controller.monitor.summary import SeriesSummary, summaries
from controller.store.blob_store import BlobStore
from controller.store.store import Store
from controller.telemetry.record import StoredWindow
from protos.errors import DocumentError
from protos.manifest import Manifest, Role, read_manifest


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
        elsewhere: by other versions, how many devices say that they run them.
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
    elsewhere: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """What ``muster drift profile NAME`` shows: how the data look, over a fleet or on one device.

    Attributes:
        devices: whose newest windows are merged.
        rows, windows: how many predictions in how many windows count.
        first_started_ms, last_ended_ms: Unix time, by the devices' clocks.
        traffic: the requests that brought them.
    """

    model: str
    version: int
    profile_sha256: str
    devices: tuple[str, ...]
    rows: int
    windows: int
    first_started_ms: int
    last_ended_ms: int
    traffic: TrafficCounts
    series: tuple[SeriesSummary, ...]


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
    told = _told(store, blobs, model, version, since_ms)
    counts = {
        device: total
        for device, windows in told.windows.items()
        if (total := merged(window.counts for window in windows)) is not None
    }
    fleet = judge_fleet(told.reference, counts)
    return DriftReport(
        model=model,
        version=told.version,
        profile_sha256=told.profile_sha256,
        verdict=fleet.world.verdict,
        rows=fleet.world_rows,
        windows=told.stored,
        last_ended_ms=max(told.ends),
        findings=fleet.world.findings,
        devices=tuple(_device_row(one, told.windows[one.device]) for one in fleet.devices),
        sentences=fleet.sentences,
        elsewhere=_elsewhere(store, model, told.version),
    )


def profile_report(
    store: Store,
    blobs: BlobStore,
    model: str,
    *,
    version: int | None = None,
    device: str | None = None,
    since_ms: int = 0,
) -> ProfileReport:
    """The merged data of the windows that ``drift_report`` judges, of all devices or of one. Blocks.

    Of all devices, none counts for more rows than the middle one.

    Raises:
        NotFound: no such model, or no device, or not this one, has told of it since ``since_ms``.
        InvalidInput: what is stored can't be read.
    """
    told = _told(store, blobs, model, version, since_ms)
    if device is not None and device not in told.windows:
        raise NotFound(f"device {device!r} has told nothing of {model}/{told.version}'s data yet")
    devices = tuple(told.windows) if device is None else (device,)
    windows = [window for one in devices for window in told.windows[one]]
    counts = merged(one for some in _fair(told, devices).values() for one in some)
    if counts is None:
        raise NotFound(f"no device has told of {model}/{told.version}'s data yet")
    return ProfileReport(
        model=model,
        version=told.version,
        profile_sha256=told.profile_sha256,
        devices=devices,
        rows=counts.rows,
        windows=len(windows),
        first_started_ms=min(window.started_ms for window in windows),
        last_ended_ms=max(window.ended_ms for window in windows),
        traffic=reduce(together, (window.traffic for window in windows)),
        series=summaries(told.reference, counts),
    )


def healthy_windows(
    store: Store, blobs: BlobStore, manifest: Manifest, *, since_ms: int = 0
) -> Mapping[str, Sequence[Counts]]:
    """By device, the newest windows of the version's data; of none that is unlike all others. Blocks.

    No device's are of more rows than the middle one's: a profile that is made of them is the fleet's.

    Raises:
        InvalidInput: what is stored can't be read.
    """
    told = _told_of(store, blobs, manifest, since_ms)
    totals = {
        device: total
        for device, windows in told.windows.items()
        if (total := merged(one.counts for one in windows)) is not None
    }
    broken = {one.device for one in judge_fleet(told.reference, totals).broken}
    return _fair(told, [device for device in told.windows if device not in broken])


def _fair(told: "_Told", devices: Sequence[str]) -> Mapping[str, Sequence[Counts]]:
    """Their windows, each device's of no more rows than the middle one's are; one alone has all."""
    rows = {device: sum(one.counts.rows for one in told.windows[device]) for device in devices}
    most = middle(rows.values(), told.reference.policy.n_min) or max(rows.values(), default=0)
    return {
        device: [
            thinned(one.counts, one.counts.rows * most // max(rows[device], most))
            for one in told.windows[device]
        ]
        for device in devices
    }


def _elsewhere(store: Store, model: str, version: int) -> Mapping[int, int]:
    with store.read() as tx:
        slots = tx.devices.slots()
    running = Counter(
        slot.version
        for slot in slots
        if slot.running and slot.model == model and slot.version != version
    )
    return dict(sorted(running.items()))


@dataclass(frozen=True, slots=True)
class _Told:
    """The newest windows of one version, by device, and how many are stored in all."""

    version: int
    profile_sha256: str
    reference: Reference
    windows: Mapping[str, Sequence[ClosedWindow]]
    stored: int

    @property
    def ends(self) -> list[int]:
        """When each device's newest window ended; at least one."""
        return [windows[0].ended_ms for windows in self.windows.values()]


def _told(store: Store, blobs: BlobStore, model: str, version: int | None, since_ms: int) -> _Told:
    with store.read() as tx:
        if tx.registry.model(model) is None:
            raise NotFound(f"no model {model!r}")
        versions = {one.version: one.manifest for one in tx.registry.versions(model)}
    for number in sorted(versions, reverse=True):
        if version in {None, number}:
            told = _told_of(store, blobs, read_manifest(versions[number]), since_ms)
            if told.windows:
                return told
    which = model if version is None else f"{model}/{version}"
    raise NotFound(f"no device has told of {which}'s data yet")


def _told_of(store: Store, blobs: BlobStore, manifest: Manifest, since_ms: int) -> _Told:
    model, version = manifest.model, manifest.version
    profile = manifest.files[Role.REFERENCE].sha256
    reference = _reference(blobs, profile)
    with store.read() as tx:
        enough = reference.policy.n_min
        newest = tx.telemetry.newest_windows(model, version, profile, enough, since_ms)
        revoked = {one.id for one in tx.devices.all() if one.status is DeviceStatus.REVOKED}
        newest = [one for one in newest if one.device not in revoked]
        stored = tx.telemetry.window_count(model, version, since_ms)
    return _Told(version, profile, reference, _by_device(reference, newest), stored)


def _by_device(
    reference: Reference, newest: Sequence[StoredWindow]
) -> Mapping[str, Sequence[ClosedWindow]]:
    """Those that tell of just the reference's series."""
    found: dict[str, list[ClosedWindow]] = {}
    for window in map(read_stored, newest):
        if len(window.counts.cells) == len(reference.series):
            found.setdefault(window.device, []).append(window)
    return found


def _reference(blobs: BlobStore, profile: str) -> Reference:
    try:
        return read_reference(b"".join(blobs.read(profile)))
    except DocumentError as error:
        raise InvalidInput(f"reference profile {profile[:12]}: {error}") from error


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
