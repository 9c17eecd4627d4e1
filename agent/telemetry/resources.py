"""What the agent uses of its device, from two readings of the operating system's counters."""

from dataclasses import dataclass

from protos.v1 import telemetry_pb2


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment.

    Attributes:
        monotonic: seconds on a clock that never goes backwards.
        cpu_seconds: of the agent and of the processes it started, ended ones too.
        resident_bytes: of the agent and of the processes it started that live.
        disk_free_bytes: where the agent keeps its files.
    """

    monotonic: float
    cpu_seconds: float
    resident_bytes: int
    disk_free_bytes: int


def resources(
    first: Reading, before: Reading, now: Reading, spool_records: int
) -> telemetry_pb2.Resources:
    """What is told. ``first`` was read when the agent started, ``before`` an interval ago."""
    interval = max(0.0, now.monotonic - before.monotonic)
    # A child that was killed takes its time with it: less than before means none.
    used = max(0.0, now.cpu_seconds - before.cpu_seconds)
    return telemetry_pb2.Resources(
        cpu_seconds=max(0.0, now.cpu_seconds),
        interval_seconds=interval,
        cpu_share=used / interval if interval else 0.0,
        resident_bytes=now.resident_bytes,
        disk_free_bytes=now.disk_free_bytes,
        spool_records=spool_records,
        uptime_seconds=max(0.0, now.monotonic - first.monotonic),
    )
