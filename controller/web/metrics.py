"""Prometheus metrics: sums over the fleet only, so that their number does not grow with it.

They are read from the store, at most once in ``FRESH_SECONDS`` however often they are asked for:
nothing is counted twice, nothing is lost when the controller restarts. What each one means stands in
its help text.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from agent.install.machine import State as InstallState
from agent.monitor.finding import Verdict
from agent.monitor.wire import verdict_of
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.fleet.presence import Presence, presence
from controller.fleet_config.actions import all_alerts
from controller.fleet_config.alerts import AlertResult, AlertState
from controller.registry.version import State as VersionState
from controller.rollout.rollout import State as RolloutState
from controller.store.store import Transaction
from controller.telemetry.record import WindowHead
from controller.web.federated_metrics import learning_metrics, read_learning
from controller.web.services import ControllerServices

MAX_SLOT_SERIES: Final = 500
"""Beyond the most frequent ones, slots are summed as model "other": devices name what they run."""

FRESH_SECONDS: Final = 15.0
RECENT_SECONDS: Final = 86_400.0
"""Windows that ended before say nothing of now; devices that are away are counted as such."""

_TRAFFIC: Final = {
    "requests": "Requests for the model, over each active device's newest window of the last day.",
    "failed": "Requests that the runtime failed to answer, of muster_newest_requests.",
    "refused": "Requests that did not fit the model's signature: not among muster_newest_requests.",
}
_KINDS: Final = frozenset({"report", "event", "window", "resources"})
_STATES: Final = frozenset(InstallState)


@dataclass(frozen=True, slots=True)
class Monitored:
    """What the devices' newest windows come to, of published versions."""

    verdicts: Counter[tuple[str, str, str]]
    traffic: Mapping[str, Mapping[str, int]]


class FleetCollector:
    """Reads the fleet's sums in one transaction, each time it is asked."""

    def __init__(self, services: ControllerServices) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """The metrics, as prometheus_client asks for them."""
        with self._services.store.read() as tx:
            devices, slots = tx.devices.all(), tx.devices.slots()
            states = Counter(one.state.value for one in tx.rollouts.all())
            windows = tx.telemetry.window_count()
            audited = tx.audit.last()
            dropped: Counter[str] = Counter()
            for kind, count in tx.telemetry.dropped().items():
                dropped[kind if kind in _KINDS else "other"] += count
            monitored = _monitored(tx, devices, self._services.now())
            alerts = tuple(all_alerts(tx, self._services.now()))
            learning = read_learning(tx, devices)
        yield _devices(devices, self._services.now())
        yield _slots(slots)
        yield from _watched(monitored)
        yield _alerts(alerts)
        yield from learning_metrics(learning)
        yield _gauge(
            "muster_rollouts", "Rollouts by state, ended ones too.", "state", states, RolloutState
        )
        yield _single("muster_windows_stored", "Telemetry windows that are stored.", windows)
        yield _gauge(
            "muster_records_dropped",
            "Telemetry records that devices had to drop for want of room, ever.",
            "kind",
            dropped,
        )
        records = 0 if audited is None else audited.sequence
        yield _single("muster_audit_records", "Records of the audit chain.", records)


class MetricsPage:
    """The metrics as text, format 0.0.4; as fresh as ``FRESH_SECONDS``, whoever asks how often."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[ControllerServices, float, bytes] | None = None

    def text(self, services: ControllerServices) -> bytes:
        """The page.

        Raises:
            StoreError: the database can't be read.
        """
        with self._lock:
            now = services.clock.monotonic()
            if self._made is not None:
                of, at, text = self._made
                if of is services and now - at < FRESH_SECONDS:
                    return text
            registry = CollectorRegistry(auto_describe=False)
            registry.register(FleetCollector(services))
            text = generate_latest(registry)
            self._made = (services, now, text)
            return text


def _monitored(tx: Transaction, devices: Iterable[Device], now: float) -> Monitored:
    active = {one.id for one in devices if one.status is DeviceStatus.ACTIVE}
    since_ms = int(1000 * (now - RECENT_SECONDS))
    newest: dict[tuple[str, str], WindowHead] = {}
    for version in tx.registry.versions():
        if version.state is VersionState.PUBLISHED:
            for head in tx.telemetry.newest_heads(version.model, version.version, since_ms):
                before = newest.get((head.model, head.device))
                later = before is None or before.ended_ms <= head.ended_ms
                if head.device in active and later:
                    newest[head.model, head.device] = head
    verdicts: Counter[tuple[str, str, str]] = Counter()
    traffic: dict[str, Counter[str]] = {}
    for head in newest.values():
        verdicts[head.model, str(head.version), verdict_of(head.verdict).value] += 1
        told = {"requests": head.requests, "failed": head.failed, "refused": head.refused}
        traffic.setdefault(head.model, Counter()).update(told)
    return Monitored(verdicts, traffic)


def _alerts(alerts: Iterable[tuple[str, AlertResult]]) -> Metric:
    family = GaugeMetricFamily(
        "muster_fleet_alert",
        "Alerts of applied fleets: 1 while one holds, 0 while not; none while too little was told.",
        labels=["fleet", "alert", "model", "severity"],
    )
    for fleet, one in alerts:
        if one.state is not AlertState.UNDECIDED:
            labels = (fleet, one.alert.name, one.alert.model, one.alert.severity)
            family.add_metric(labels, float(one.state is AlertState.FIRING))
    return family


def _watched(monitored: Monitored) -> Iterator[Metric]:
    drift = GaugeMetricFamily(
        "muster_drift_devices",
        "Active devices by what they said of their data in their newest window of the last day.",
        labels=["model", "version", "verdict"],
    )
    for model, version in sorted({key[:2] for key in monitored.verdicts}):
        for verdict in Verdict:
            key = (model, version, verdict.value)
            drift.add_metric(key, monitored.verdicts[key])
    yield drift
    for kind, text in _TRAFFIC.items():
        family = GaugeMetricFamily(f"muster_newest_{kind}", text, labels=["model"])
        for model, told in sorted(monitored.traffic.items()):
            family.add_metric([model], told[kind])
        yield family


def _devices(devices: Iterable[Device], now: float) -> Metric:
    active = [one for one in devices if one.status is DeviceStatus.ACTIVE]
    counts = Counter(presence(one, now).value for one in active)
    return _gauge(
        "muster_devices",
        "Active devices by whether they can be reached.",
        "presence",
        counts,
        Presence,
    )


def _slots(slots: Iterable[SlotState]) -> Metric:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for slot in slots:
        state = slot.state if slot.state in _STATES else "other"
        running = "yes" if slot.running else "no"
        counts[slot.model, str(slot.version), state, running] += 1
    family = GaugeMetricFamily(
        "muster_slots",
        "Slots by what devices report of them.",
        labels=["model", "version", "state", "running"],
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[MAX_SLOT_SERIES:])
    for labels, count in ordered[:MAX_SLOT_SERIES]:
        family.add_metric(labels, count)
    if rest:
        family.add_metric(["other", "", "other", ""], rest)
    return family


def _gauge(
    name: str, text: str, label: str, counts: Counter[str], all_values: Iterable[str] = ()
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value in sorted({*map(str, all_values), *map(str, counts)}):
        family.add_metric([value], counts[value])
    return family


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
