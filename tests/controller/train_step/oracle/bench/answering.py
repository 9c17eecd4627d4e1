"""What both processes say of themselves: a line for each number of steps that they are asked for."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def answer(step: Callable[[], None]) -> None:
    """For each line with a number runs as many steps, and tells the median of them.

    Seconds that passed, and seconds on cores; MiB that were resident at most since the process
    began.
    """
    for line in sys.stdin:
        passed, busy = [], []
        for _ in range(int(line)):
            began, spent = time.perf_counter(), time.process_time()
            step()
            passed.append(time.perf_counter() - began)
            busy.append(time.process_time() - spent)
        told = {
            "seconds": statistics.median(passed),
            "busy": statistics.median(busy),
            "peak": peak(),
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def peak() -> float:
    """The most memory that this process has had resident."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
