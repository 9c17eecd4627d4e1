"""Versions that answer requests, time that a test moves, and what the monitor has told."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from agent.inference.traffic import TrafficCounts
from agent.monitor.observer import Observer
from agent.monitor.reference import Reference
from agent.monitor.wire import read_window
from agent.store.device_store import SpoolRecord
from protos.v1 import telemetry_pb2
from simulations.memory_device_store import Contents
from tests.agent.monitor import profiles


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept = asyncio.Event()

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def turn(self) -> None:
        """Returns when the loop sleeps again."""
        self.slept.clear()
        async with asyncio.timeout(30):
            await self.slept.wait()

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept.set()
        await asyncio.sleep(0)


@dataclass
class Running:
    """A version that answers requests: a real observer, fed as inference feeds it."""

    digest: str = "a" * 64
    reference: Reference = field(default_factory=profiles.reference)
    model: str = "pump"
    version: int = 1

    def __post_init__(self) -> None:
        self.manifest_sha256 = self.digest
        self.observer = Observer(self.reference)
        self.fresh = TrafficCounts()
        self.rng = np.random.default_rng(int(self.digest[0], 16))

    def serve(self, rows: int, shift: float = 0.0) -> None:
        x = profiles.features(self.rng, rows, shift)
        colour = profiles.colours(self.rng, rows)
        self.observer.observe(profiles.inputs(x, colour), profiles.answers(x))
        self.fresh = TrafficCounts(requests=self.fresh.requests + rows)

    def drain_traffic(self) -> TrafficCounts:
        fresh, self.fresh = self.fresh, TrafficCounts()
        return fresh


@dataclass
class Serving:
    """What answers requests now."""

    versions: list[Running]

    def watched(self) -> list[Running]:
        return list(self.versions)


def told(
    records: "list[SpoolRecord] | Any",
) -> tuple[list[telemetry_pb2.Window], list[telemetry_pb2.Event]]:
    messages = [telemetry_pb2.Record.FromString(one.payload) for one in records]
    windows = [one.window for one in messages if one.HasField("window")]
    return windows, [one.event for one in messages if one.HasField("event")]


def spooled(store: Any) -> tuple[list[telemetry_pb2.Window], list[telemetry_pb2.Event]]:
    return told(store.spool.batch(10_000, 2**30))


def kept(contents: Contents) -> int:
    """Rows that are safe: told, or in an open window."""
    windows, _ = told([contents.spool[key] for key in sorted(contents.spool)])
    open_windows = [value for key, value in contents.windows.items() if "#" not in key]
    return sum(window.rows for window in windows) + sum(
        read_window(value).counts.rows for value in open_windows
    )
