"""Readings of what the agent uses."""

import os
from pathlib import Path

from agent.clock import SystemClock
from agent.telemetry.loop import ResourcesLoop
from agent.telemetry.resources import Reading, resources
from protos.v1 import telemetry_pb2
from simulations.memory_device_store import MemoryDeviceStore

FIRST = Reading(monotonic=100.0, cpu_seconds=1.0, resident_bytes=10, disk_free_bytes=5)


def test_the_share_is_of_the_interval_and_the_uptime_of_all() -> None:
    before = Reading(160.0, 4.0, 50, 40)
    now = Reading(220.0, 19.0, 70, 60)

    told = resources(FIRST, before, now, spool_records=3)

    assert told == telemetry_pb2.Resources(
        cpu_seconds=19.0,
        interval_seconds=60.0,
        cpu_share=0.25,
        resident_bytes=70,
        disk_free_bytes=60,
        spool_records=3,
        uptime_seconds=120.0,
    )


def test_a_killed_child_never_makes_the_share_negative() -> None:
    told = resources(FIRST, Reading(160.0, 9.0, 1, 1), Reading(220.0, 4.0, 1, 1), 0)

    assert told.cpu_share == 0.0


def test_two_readings_at_the_same_moment_have_no_share() -> None:
    assert resources(FIRST, FIRST, FIRST, 0).cpu_share == 0.0


def test_this_very_process_is_read_and_the_reading_is_spooled(tmp_path: Path) -> None:
    store = MemoryDeviceStore()
    loop = ResourcesLoop(store, tmp_path, SystemClock())

    told = loop.take()

    assert told.resident_bytes > 10 * 2**20
    assert told.cpu_seconds > 0
    assert told.disk_free_bytes <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    (spooled,) = store.spool.batch(10, 10_000)
    assert spooled.kind == "resources"
    assert telemetry_pb2.Record.FromString(spooled.payload).resources == told
    assert loop.take().spool_records == 1
