"""What a process weighs, as the kernel counts it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from protos.limits import MIB

_NANOSECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Weight:
    """Memory of one process, in MiB.

    Attributes:
        resident: all of its pages that are in memory.
        proportional: each page divided by the number of processes that share it.
        unique: pages of no other process: what ending it would free.
        code: resident pages of files: the kernel may drop them and read them again.
    """

    resident: float
    proportional: float
    unique: float
    code: float


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process did in some seconds: its share of one core, and how often it woke a second."""

    share: float
    wakes: float


def weight(pid: int) -> Weight:
    """The process's memory now."""
    found = psutil.Process(pid).memory_full_info()
    return Weight(found.rss / MIB, found.pss / MIB, found.uss / MIB, found.shared / MIB)


def busy_seconds(pid: int) -> float:
    """Seconds that the process has spent on cores since it started, in hundredths."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


def activities(pids: list[int], seconds: float) -> list[Activity]:
    """What every process did in the next ``seconds``, all at the same time."""
    before = [_so_far(pid) for pid in pids]
    began = time.monotonic()
    time.sleep(seconds)
    spent = time.monotonic() - began
    return [
        Activity((busy - busy_before) / spent, (woken - woken_before) / spent)
        for (busy, woken), (busy_before, woken_before) in zip(
            (_so_far(pid) for pid in pids), before, strict=True
        )
    ]


def _so_far(pid: int) -> tuple[float, int]:
    """Seconds on a core and times put on one, of all threads; ``schedstat`` counts nanoseconds.

    ``/proc/PID/stat`` counts hundredths of a second, too coarse for a process that does nothing.
    """
    busy, woken = 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        ran, _, times = (task / "schedstat").read_text().split()
        busy, woken = busy + int(ran), woken + int(times)
    return busy / _NANOSECONDS, woken
