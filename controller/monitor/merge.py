"""Windows of devices, read and merged. Counts of different profiles never merge."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from agent.monitor.counts import Counts
from agent.monitor.finding import Finding, Verdict
from agent.monitor.wire import counts_of, finding_from, verdict_of
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


def read_stored(stored: StoredWindow) -> ClosedWindow:
    """The window in a stored payload.

    Raises:
        InvalidInput: the payload is no window; names device and window.
    """
    try:
        message = telemetry_pb2.Window.FromString(stored.payload)
        counts = counts_of(message)
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


def latest(windows: Sequence[StoredWindow], rows: int) -> Mapping[str, Sequence[StoredWindow]]:
    """Of each device its newest windows, as few as have ``rows`` together; all if all have fewer.

    ``windows`` ascend by their end, as a store gives them.
    """
    found: dict[str, list[StoredWindow]] = {}
    have: dict[str, int] = {}
    for window in reversed(windows):
        if have.get(window.device, 0) < rows:
            found.setdefault(window.device, []).append(window)
            have[window.device] = have.get(window.device, 0) + window.rows
    return {device: found[device] for device in sorted(found)}
