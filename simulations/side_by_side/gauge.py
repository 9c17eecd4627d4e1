"""What processes take: the memory of each tree, now and at most; and the kernel's byte counts."""

import contextlib
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from protos.limits import KIB

PAUSE: Final = 0.1
_SIZE: Final = re.compile(r"^(Rss|Pss|Anonymous): +([0-9]+) kB$", re.MULTILINE)
_BYTES: Final = re.compile(r"bytes_sent:(\d+).*?bytes_received:(\d+)")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one or more processes, in MiB.

    Attributes:
        resident: pages that are in memory; code counts once for each process that has it.
        proportional: each page divided by the number of processes that have it.
        own: pages of no file, which nothing but the end of the process frees.
    """

    resident: float = 0.0
    proportional: float = 0.0
    own: float = 0.0

    def __add__(self, other: "Memory") -> "Memory":
        return self._with(other, float.__add__)

    def __truediv__(self, number: int) -> "Memory":
        return Memory(self.resident / number, self.proportional / number, self.own / number)

    def at_least(self, other: "Memory") -> "Memory":
        """The larger of each."""
        return self._with(other, max)

    def _with(self, other: "Memory", made: Callable[[float, float], float]) -> "Memory":
        return Memory(
            made(self.resident, other.resident),
            made(self.proportional, other.proportional),
            made(self.own, other.own),
        )


def mean(found: Sequence[Memory]) -> Memory:
    """Of at least one."""
    return sum(found, Memory()) / len(found)


def memory(pid: int) -> Memory:
    """Of the process and all that it has started; nothing if it has ended."""
    total = Memory()
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(OSError):
                total += told(Path(f"/proc/{one.pid}/smaps_rollup").read_text(encoding="ascii"))
    return total


def told(text: str) -> Memory:
    """What the kernel's sums of one process say."""
    sizes = {name: int(size) / KIB for name, size in _SIZE.findall(text)}
    return Memory(sizes.get("Rss", 0.0), sizes.get("Pss", 0.0), sizes.get("Anonymous", 0.0))


class Peaks:
    """The most that each tree had while it was looked at, of each kind by itself."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.most = dict.fromkeys(pids, Memory())

    def look(self) -> None:
        """Once more."""
        for pid in self.most:
            self.most[pid] = self.most[pid].at_least(memory(pid))

    @property
    def mean(self) -> Memory:
        """Over the trees."""
        return mean(tuple(self.most.values()))


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
