"""Limits that a child process sets itself before it opens anything, and what it uses."""

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Final

from protos.limits import MIB

SLACK_BYTES: Final = 64 * MIB  # stacks, and what the allocator keeps: not the model's
_MEMORY_WORDS: Final = ("bad_alloc", "bad allocation", "failed to allocate", "out of memory")
_PR_SET_PDEATHSIG: Final = 1


def limit(seconds: float, memory_bytes: int) -> None:
    """From here on it can't compute for longer, fill the memory or the disk, or dump core."""
    whole = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    # Data, not address space: a runtime reserves far more addresses than it ever uses.
    data = status_bytes("VmData") + memory_bytes + SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))


def die_with(parent: int) -> None:
    """The kernel ends this process when ``parent`` ends, even while it stands still.

    Where a kernel can't, its processor time ends it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before this could be said
        raise SystemExit(1)


def status_bytes(field: str) -> int:
    """A size in ``/proc/self/status``: "VmRSS", "VmHWM", "VmData"."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak() -> int:
    """Makes the peak what is resident now, and returns that; else the peak so far."""
    try:
        with Path("/proc/self/clear_refs").open("w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass
    return status_bytes("VmHWM")


def out_of_memory(error: BaseException) -> bool:
    """Whether that is why it failed, as runtimes say it."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or isinstance(error.__cause__, MemoryError)
        or any(word in text for word in _MEMORY_WORDS)
    )
