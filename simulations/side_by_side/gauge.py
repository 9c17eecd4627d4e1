"""What processes take: the resident memory of each tree, now and at most; and the kernel's byte counts."""

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psutil

from protos.limits import MIB

PAUSE: Final = 0.1
_BYTES: Final = re.compile(r"bytes_sent:(\d+).*?bytes_received:(\d+)")


def resident(pid: int) -> float:
    """MiB of the process and all that it has started; 0 if it has ended."""
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total / MIB


class Peaks:
    """The most that each tree had while it was looked at, in MiB."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.most = dict.fromkeys(pids, 0.0)

    def look(self) -> None:
        """Once more."""
        for pid in self.most:
            self.most[pid] = max(self.most[pid], resident(pid))

    @property
    def mean(self) -> float:
        """Over the trees."""
        return sum(self.most.values()) / len(self.most)


@contextmanager
def watched(pids: Sequence[int]) -> Iterator[Peaks]:
    """Looks all the time while the block runs."""
    peaks, ended = Peaks(pids), threading.Event()

    def look() -> None:
        while not ended.wait(PAUSE):
            peaks.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def carried(port: int) -> tuple[int, int]:
    """Bytes that a server's open connections have received and sent so far. Needs Linux's ``ss``."""
    words = ["ss", "-tinHO", "state", "established", f"( sport = :{port} )"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)  # noqa: S603
    return counted(done.stdout)


def counted(told: str) -> tuple[int, int]:
    """Received and sent, in what ``ss`` told of connections, a line each."""
    found = [(int(sent), int(got)) for sent, got in _BYTES.findall(told)]
    return sum(got for _, got in found), sum(sent for sent, _ in found)
