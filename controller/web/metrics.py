"""Prometheus metrics: sums over the fleet only, so that their number does not grow with it.

They are read from the store when they are asked for: nothing is counted twice, nothing is lost when
the controller restarts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from agent.install.machine import State as InstallState
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.fleet.presence import Presence, presence
from controller.rollout.rollout import State as RolloutState
from controller.web.services import ControllerServices

MAX_SLOT_SERIES: Final = 500
"""Beyond the most frequent ones, slots are summed as model "other": devices name what they run."""

_KINDS: Final = frozenset({"report", "event", "window", "resources"})
_STATES: Final = frozenset(InstallState)


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
            for device in devices:
                for kind, count in tx.telemetry.dropped(device.id).items():
                    dropped[kind if kind in _KINDS else "other"] += count
        yield _devices(devices, self._services.now())
        yield _slots(slots)
        yield _gauge("muster_rollouts", "Rollouts.", "state", states, RolloutState)
        yield _single("muster_windows_stored", "Telemetry windows that are stored.", windows)
        yield _gauge("muster_records_dropped", "Records that devices had to drop.", "kind", dropped)
        records = 0 if audited is None else audited.sequence
        yield _single("muster_audit_records", "Records of the audit chain.", records)


def exposition(services: ControllerServices) -> bytes:
    """The metrics as text, format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(services))
    return generate_latest(registry)


def _devices(devices: Iterable[Device], now: float) -> Metric:
    active = [one for one in devices if one.status is DeviceStatus.ACTIVE]
    counts = Counter(presence(one, now).value for one in active)
    return _gauge("muster_devices", "Active devices.", "presence", counts, Presence)


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
