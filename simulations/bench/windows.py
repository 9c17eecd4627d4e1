"""Telemetry as a device of a realistic size sends it: 32 features and the output, 1,000 rows a window."""

import random
from typing import Final

from agent.monitor.reference import BINS, CELLS
from protos.v1 import telemetry_pb2

SERIES: Final = 33  # 32 features and the output
_ROWS: Final = 1_000


def window(rng: random.Random, ended_ms: int) -> telemetry_pb2.Window:
    """A minute of data that is as it should be; its id is still to be set."""
    counts: list[int] = []
    sums: list[float] = []
    for _ in range(SERIES):
        cells = [0] * CELLS
        for _ in range(_ROWS):
            cells[1 + int(rng.random() * BINS)] += 1
        counts += cells
        sums += [float(rng.randrange(10**6)), float(rng.randrange(10**9)), -rng.random(), 1.0]
    return telemetry_pb2.Window(
        model="digits",
        version=3,
        manifest_sha256="a" * 64,
        profile_sha256="b" * 64,
        started_ms=ended_ms - 60_000,
        ended_ms=ended_ms,
        rows=_ROWS,
        counts=counts,
        sums=sums,
        verdict=telemetry_pb2.VERDICT_OK,
        traffic=telemetry_pb2.Traffic(
            requests=_ROWS, latency_counts=[40] * 23, latency_sum_seconds=0.25
        ),
    )


def resources() -> telemetry_pb2.Resources:
    """What an agent says once a minute of what it takes."""
    return telemetry_pb2.Resources(
        cpu_seconds=17.25,
        interval_seconds=60.0,
        cpu_share=0.0042,
        resident_bytes=88_123_904,
        disk_free_bytes=21_474_836_480,
        spool_records=2,
        uptime_seconds=86_400.0,
    )
