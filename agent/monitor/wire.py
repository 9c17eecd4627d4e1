"""Windows and events as messages, and back: ``muster.v1.Window`` of ``telemetry.proto``.

``sums`` are, for each series: the integer sums of z and z² (in the profile's unit about its
centre), and the least and greatest finite value.
"""

from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from agent.inference.traffic import TrafficCounts
from agent.monitor.counts import Counts
from agent.monitor.finding import Finding, Judgement, Severity, Verdict
from agent.monitor.reference import CELLS, MAX_SERIES
from agent.monitor.window import OpenWindow
from protos.errors import DocumentError
from protos.v1 import telemetry_pb2

_NUMBERS: Final = {
    Verdict.INSUFFICIENT_DATA: telemetry_pb2.VERDICT_INSUFFICIENT_DATA,
    Verdict.OK: telemetry_pb2.VERDICT_OK,
    Verdict.DRIFT: telemetry_pb2.VERDICT_DRIFT,
    Verdict.BAD_DATA: telemetry_pb2.VERDICT_BAD_DATA,
}
_VERDICTS: Final = {number: verdict for verdict, number in _NUMBERS.items()}
_SUMS: Final = 4


def verdict_of(number: int) -> Verdict:
    """The verdict; an unknown number is no verdict, and so is ``insufficient_data``."""
    return next(
        (verdict for known, verdict in _VERDICTS.items() if known == number),
        Verdict.INSUFFICIENT_DATA,
    )


def window_message(
    window: OpenWindow, ended_ms: int = 0, judgement: Judgement | None = None
) -> telemetry_pb2.Window:
    """The window as a message; one that is still open has no end and no verdict."""
    counts, traffic = window.counts, window.traffic
    sums = np.column_stack([counts.sums.astype(np.float64), counts.least, counts.greatest])
    return telemetry_pb2.Window(
        model=window.model,
        version=window.version,
        manifest_sha256=window.manifest_sha256,
        profile_sha256=counts.profile,
        window_id=window.window_id,
        started_ms=window.started_ms,
        ended_ms=ended_ms,
        rows=counts.rows,
        counts=counts.cells.ravel().tolist(),
        sums=sums.ravel().tolist(),
        verdict=_NUMBERS[judgement.verdict] if judgement else telemetry_pb2.VERDICT_UNSPECIFIED,
        findings=[finding_message(one) for one in judgement.findings] if judgement else (),
        traffic=telemetry_pb2.Traffic(
            requests=traffic.requests,
            failed=traffic.failed,
            refused=traffic.refused,
            latency_counts=traffic.latency_counts,
            latency_sum_seconds=traffic.latency_sum_seconds,
        ),
    )


def finding_message(finding: Finding) -> telemetry_pb2.Finding:
    """The finding as a message."""
    return telemetry_pb2.Finding(
        series=finding.series,
        kind=finding.kind,
        statistic=finding.statistic,
        value=finding.value,
        threshold=finding.threshold,
        p_value=finding.p_value,
        effect=finding.effect,
        severity=finding.severity.value,
        detail=finding.detail,
    )


def finding_from(message: telemetry_pb2.Finding) -> Finding:
    """The inverse of ``finding_message``; an unknown severity is a warning."""
    critical = message.severity == Severity.CRITICAL.value
    return Finding(
        series=message.series,
        kind=message.kind,
        statistic=message.statistic,
        value=message.value,
        threshold=message.threshold,
        p_value=message.p_value,
        effect=message.effect,
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        detail=message.detail,
    )


def read_window(data: bytes) -> OpenWindow:
    """The window in a serialised message, open or closed.

    Raises:
        DocumentError: it is no window, or its counts are at odds; names the field.
    """
    try:
        message = telemetry_pb2.Window.FromString(data)
    except DecodeError as error:
        raise DocumentError("malformed", "not a window") from error
    return OpenWindow(
        window_id=message.window_id,
        model=message.model,
        version=message.version,
        manifest_sha256=message.manifest_sha256,
        started_ms=message.started_ms,
        counts=counts_of(message),
        traffic=traffic_of(message),
    )


def counts_of(message: telemetry_pb2.Window) -> Counts:
    """The counts that a window carries.

    Raises:
        DocumentError: they are at odds with themselves; names the field.
    """
    series, rest = divmod(len(message.counts), CELLS)
    if rest or not 0 < series <= MAX_SERIES:
        raise DocumentError(
            "malformed", f"window: `counts` has {len(message.counts)} numbers, not {CELLS} a series"
        )
    if len(message.sums) != series * _SUMS:
        raise DocumentError(
            "malformed", f"window: `sums` has {len(message.sums)} numbers for {series} series"
        )
    if message.rows > 2**53 or max(message.counts) > message.rows:
        raise DocumentError("malformed", "window: `counts` has more in a cell than `rows`")
    cells = np.array(message.counts, np.int64).reshape(series, CELLS)
    if (cells.sum(axis=1) != message.rows).any():
        raise DocumentError("malformed", "window: `counts` do not add up to `rows`")
    sums = np.array(message.sums, np.float64).reshape(series, _SUMS)
    whole = sums[:, :2]
    if not (np.abs(whole) <= 2.0**62).all() or np.isnan(sums).any():
        raise DocumentError("malformed", "window: `sums` has a number that can't be a sum")
    return Counts(
        profile=message.profile_sha256,
        rows=message.rows,
        cells=cells,
        sums=np.rint(whole).astype(np.int64),
        least=sums[:, 2].copy(),
        greatest=sums[:, 3].copy(),
    )


def traffic_of(window: telemetry_pb2.Window) -> TrafficCounts:
    """The requests that a window tells of.

    Raises:
        DocumentError: its histogram has another number of buckets.
    """
    message, buckets = window.traffic, len(TrafficCounts().latency_counts)
    if len(message.latency_counts) not in {0, buckets}:
        raise DocumentError(
            "malformed",
            f"window: `traffic.latency_counts` has {len(message.latency_counts)} numbers",
        )
    return TrafficCounts(
        requests=message.requests,
        failed=message.failed,
        refused=message.refused,
        latency_counts=tuple(message.latency_counts) or (0,) * buckets,
        latency_sum_seconds=message.latency_sum_seconds,
    )


def window_record(window: OpenWindow, ended_ms: int, judgement: Judgement) -> bytes:
    """A serialised ``muster.v1.Record``, without its sequence, of a closed window."""
    return telemetry_pb2.Record(
        recorded_ms=ended_ms, window=window_message(window, ended_ms, judgement)
    ).SerializeToString()


def alert_record(window: OpenWindow, ended_ms: int, told: Verdict, judgement: Judgement) -> bytes:
    """A serialised ``muster.v1.Record``, without its sequence, of "monitor.drift" and its like."""
    top = judgement.findings[0] if judgement.findings else None
    critical = any(one.severity is Severity.CRITICAL for one in judgement.findings)
    severity = "info" if told is Verdict.OK else "error" if critical else "warning"
    fields = {"window_id": window.window_id, "rows": str(window.counts.rows)}
    if top:
        fields |= {
            "series": ", ".join(one.series for one in judgement.findings[:5]),
            "statistic": top.statistic,
            "value": f"{top.value:.6g}",
            "threshold": f"{top.threshold:.6g}",
            "effect": f"{top.effect:.3g}",
            "p_value": f"{top.p_value:.3g}",
        }
    healthy = "the data are as in the reference again"
    event = telemetry_pb2.Event(
        name=f"monitor.{told.value}",
        severity=severity,
        model=window.model,
        version=window.version,
        code="" if told is Verdict.OK else told.value.replace("_", "-"),
        detail="; ".join(one.detail for one in judgement.findings[:3]) or healthy,
        fields=fields,
    )
    return telemetry_pb2.Record(recorded_ms=ended_ms, event=event).SerializeToString()
