"""What a process that ``children`` has started does to itself before it looks at its message."""

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

NICENESS: Final = 5


def answer_with(work: Callable[[bytes], bytes]) -> None:
    """Works at the message on stdin, and answers on what was stdout when it began."""
    outlive_nobody(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a runtime prints is no answer
    with answers:
        answers.write(work(sys.stdin.buffer.read()))


def outlive_nobody(pipe: int) -> None:
    """From now on this process ends when nobody holds the other end of the pipe."""
    threading.Thread(target=_watch, args=(pipe,), name="life", daemon=True).start()


def limit(seconds: int, memory_bytes: int) -> None:
    """Nothing from here on can last, fill the memory or the disk, or dump core.

    Args:
        seconds: of processor time, and of wall time.
        memory_bytes: beyond what the process has now.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # Data, not address space: a runtime reserves far more addresses than it ever uses.
    data = _data_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    with contextlib.suppress(OSError):  # if memory ends all the same, this is who pays for it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.nice(NICENESS)


def _watch(pipe: int) -> None:
    while os.read(pipe, 64):
        pass
    os._exit(1)


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
