"""Windows of devices, read and merged. Counts of different profiles never merge."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from statistics import median_low

import numpy as np
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


def middle(rows: Collection[int], enough: int) -> int:
    """The rows of the middle device of those that have ``enough``: the most that one counts for.

    The lower of two; of one alone, as many as all others have together. 0 if none has enough.
    """
    several = [one for one in rows if one >= enough]
    if len(several) == 1 and len(rows) > 1:
        return min(several[0], sum(rows) - several[0]) or several[0]
    return median_low(several or [0])


def thinned(counts: Counts, rows: int) -> Counts:
    """As if it were of ``rows`` rows, if it is of more: in the same shares, to less than one row.

    Largest remainders first (Hamilton's method). Least and greatest values stay.
    """
    if counts.rows <= rows:
        return counts
    share = rows / counts.rows
    exact = counts.cells * share
    whole = np.floor(exact).astype(np.int64)
    left = rows - whole.sum(axis=1, keepdims=True)
    order = np.argsort(whole - exact, axis=1, kind="stable")
    whole += np.argsort(order, axis=1, kind="stable") < left
    sums = np.rint(counts.sums * share).astype(np.int64)
    return replace(counts, rows=rows, cells=whole, sums=sums)
