"""Windows of devices, read and merged. Counts of different profiles never merge."""

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from agent.inference.traffic import TrafficCounts
from agent.monitor.counts import Counts
from agent.monitor.finding import Finding, Verdict
from agent.monitor.wire import counts_of, finding_from, traffic_of, verdict_of
from controller.errors import InvalidInput
from controller.telemetry.record import StoredWindow
from protos.errors import DocumentError
from protos.v1 import telemetry_pb2


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """One window as a device told it. Times are Unix milliseconds by the device's clock."""

    device: str
    window_id: str
    started_ms: int
    ended_ms: int
    verdict: Verdict
    findings: tuple[Finding, ...]
    counts: Counts
    traffic: TrafficCounts


def read_stored(stored: StoredWindow) -> ClosedWindow:
    """The window in a stored payload.

    Raises:
        InvalidInput: the payload is no window; names device and window.
    """
    try:
        message = telemetry_pb2.Window.FromString(stored.payload)
        counts, traffic = counts_of(message), traffic_of(message)
    except (DocumentError, DecodeError) as error:
        raise InvalidInput(
            f"window {stored.window_id!r} of device {stored.device!r}: {error}"
        ) from error
    return ClosedWindow(
        device=stored.device,
        window_id=stored.window_id,
        started_ms=stored.started_ms,
        ended_ms=stored.ended_ms,
        verdict=verdict_of(message.verdict),
        findings=tuple(finding_from(one) for one in message.findings),
        counts=counts,
        traffic=traffic,
    )


def merged(counts: Iterable[Counts]) -> Counts | None:
    """All of them together, whatever their order; None of none.

    Raises:
        ProfileMismatch: they are of different profiles.
    """
    total: Counts | None = None
    for one in counts:
        total = one if total is None else total + one
    return total
