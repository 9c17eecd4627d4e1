"""Windows as devices send them, checked."""

import math
from collections.abc import Sequence
from typing import Final

from agent.monitor.binning import CLIP
from agent.monitor.reference import CELLS, MAX_SERIES
from controller.telemetry.bounds import (
    FINDINGS,
    NUMBER,
    TEXT,
    VERSION,
    WINDOW_BYTES,
    Unacceptable,
    digest,
    model_name,
    name,
    number,
    plausible_ms,
)
from controller.telemetry.record import StoredWindow
from protos.limits import LATENCY_BUCKETS_SECONDS
from protos.v1 import telemetry_pb2

SUMS: Final = 4  # of each series: sum, sum of squares, least, greatest
LARGEST_SUM: Final = 2.0**62
_VERDICTS: Final = frozenset(telemetry_pb2.Verdict.values())
_LATENCIES: Final = frozenset({0, len(LATENCY_BUCKETS_SECONDS) + 1})


def stored_window(
    device: str, spool: str, sequence: int, window: telemetry_pb2.Window, now_ms: int
) -> StoredWindow:
    """The window as it is stored.

    Raises:
        Unacceptable: it can't be one; the message names the field.
    """
    payload = window.SerializeToString()
    if len(payload) > WINDOW_BYTES:
        raise Unacceptable("too-large", f"a window of {len(payload)} bytes; {WINDOW_BYTES} at most")
    if window.started_ms > window.ended_ms:
        raise Unacceptable("malformed", "ended_ms: before started_ms")
    digest("manifest_sha256", window.manifest_sha256)
    rows = number("rows", window.rows)
    _check_counts(window)
    _check_traffic(window.traffic)
    _check_findings(window)
    ended_ms = plausible_ms(window.ended_ms, now_ms)
    return StoredWindow(
        device=device,
        spool=spool,
        sequence=sequence,
        model=model_name("model", window.model),
        version=number("version", window.version, VERSION),
        profile_sha256=digest("profile_sha256", window.profile_sha256),
        window_id=name("window_id", window.window_id),
        # What is shifted keeps its length.
        started_ms=max(0, ended_ms - (window.ended_ms - window.started_ms)),
        ended_ms=ended_ms,
        rows=rows,
        verdict=window.verdict,
        payload=payload,
        requests=window.traffic.requests,
        failed=window.traffic.failed,
        refused=window.traffic.refused,
    )


def _check_counts(window: telemetry_pb2.Window) -> None:
    """Returns if ``agent.monitor.wire.counts_of`` will read the window, and so many rows can have its sums.

    Others would outweigh all that they are added to. In less time than it takes to read it.
    """
    counts, sums, rows = window.counts[:], window.sums[:], window.rows
    series, rest = divmod(len(counts), CELLS)
    if rest or not 0 < series <= MAX_SERIES:
        raise Unacceptable("malformed", f"counts: {len(counts)} numbers, not {CELLS} a series")
    if len(sums) != series * SUMS:
        raise Unacceptable("malformed", f"sums: {len(sums)} numbers for {series} series")
    for at in range(0, len(counts), CELLS):
        if sum(counts[at : at + CELLS]) != rows:
            raise Unacceptable("malformed", "counts: they do not add up to `rows`")
    for at in range(0, len(sums), SUMS):
        if not _possible(sums[at : at + SUMS], rows):
            raise Unacceptable("malformed", f"sums: not those of series {at // SUMS}")
    if window.verdict not in _VERDICTS:
        raise Unacceptable("malformed", f"verdict: {window.verdict} is none")


def _possible(sums: Sequence[float], rows: int) -> bool:
    """Whether so many rows can have them; NaN no row has."""
    total, squares, least, greatest = sums
    if not abs(total) <= min(rows * CLIP, LARGEST_SUM):
        return False
    if not 0 <= squares <= min(rows * CLIP**2, LARGEST_SUM):
        return False
    return -math.inf < least <= greatest < math.inf or least == -greatest == math.inf


def _check_traffic(traffic: telemetry_pb2.Traffic) -> None:
    for field, value in (
        ("requests", traffic.requests),
        ("failed", traffic.failed),
        ("refused", traffic.refused),
        ("latency_counts", max(traffic.latency_counts, default=0)),
    ):
        number(f"traffic.{field}", value)
    if len(traffic.latency_counts) not in _LATENCIES:
        raise Unacceptable(
            "malformed", f"traffic.latency_counts: {len(traffic.latency_counts)} buckets"
        )
    if not 0 <= traffic.latency_sum_seconds < NUMBER:
        raise Unacceptable("out-of-range", "traffic.latency_sum_seconds: not a sum of durations")


def _check_findings(window: telemetry_pb2.Window) -> None:
    if len(window.findings) > FINDINGS:
        raise Unacceptable("too-large", f"findings: {len(window.findings)}; {FINDINGS} at most")
    for finding in window.findings:
        texts = (
            finding.series,
            finding.kind,
            finding.statistic,
            finding.severity,
            finding.detail,
        )
        if max(map(len, texts)) > TEXT:
            raise Unacceptable("too-large", f"findings: a text of more than {TEXT} characters")
        if math.isnan(finding.value):
            raise Unacceptable("malformed", f"findings: {finding.series[:80]!r} has no value")
