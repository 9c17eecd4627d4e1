"""What both processes say of themselves: a line for each time that they are asked."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

LEAST: Final = 5


def answer(step: Callable[[], None]) -> None:
    """For each line with a number makes steps for as many seconds, and tells the median of them.

    Seconds that passed, and seconds on cores; MiB that were resident at most since the process
    began. It makes at least `LEAST` steps; the first, which prepare the others, are not counted.
    """
    for _ in range(LEAST):
        step()
    for line in sys.stdin:
        passed, busy = list[float](), list[float]()
        while len(passed) < LEAST or sum(passed) < float(line):
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
