"""Processes of our own with limits, each for one message: what it holds may crash them or want all memory.

A message goes in on standard input, and one comes back on standard output. A process ends with whoever
started it: it holds the reading end of a pipe whose other end is here (``limits.outlive_nobody``).
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from controller.errors import StoreError
from protos.limits import MIB

SECONDS: Final = 900
LEAST_BYTES: Final = 1024 * MIB
AT_ONCE: Final = 2
"""So many of one kind are at work at the same time; whoever asks for more waits."""

SPARE_SECONDS: Final = 30
"""The kernel ends a process at its limit; so long after that we do."""

_TIME_SIGNALS: Final = {signal.SIGXCPU, signal.SIGALRM}


def half_of_memory() -> int:
    """What a process may take if nobody says otherwise, in bytes."""
    return max(LEAST_BYTES, int(psutil.virtual_memory().total) // 2)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, and what it said until then; ``status`` is negative for a signal."""

    status: int
    said: bytes

    @property
    def took_too_long(self) -> bool:
        """The kernel ended it at its limit of time."""
        return -self.status in _TIME_SIGNALS

    @property
    def how(self) -> str:
        """Its end, in words."""
        ended = f"status {self.status}" if self.status >= 0 else signal.Signals(-self.status).name
        return f"ended with {ended}: it crashed, or took too much memory"


class Children:
    """Runs a module once for each message. May be asked from several threads.

    Args:
        module: what ``python -m`` runs; it gets the number of the pipe as its argument.
        at_once: so many at the same time.
    """

    def __init__(self, module: str, at_once: int = AT_ONCE) -> None:
        self._module = module
        self._turn = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._over = False

    @property
    def pids(self) -> list[int]:
        """Of those that are at work."""
        with self._lock:
            return sorted(one.pid for one in self._alive)

    @property
    def over(self) -> bool:
        """They were all ended."""
        return self._over

    def run(self, message: bytes, seconds: float) -> Ended:
        """Has a process work at the message, which is given so many seconds. Blocks.

        Raises:
            StoreError: no process can be started.
        """
        with self._turn, self._started() as child:
            try:
                said, _ = child.communicate(message, timeout=seconds + SPARE_SECONDS)
            except subprocess.TimeoutExpired:
                said = b""
            finally:
                _kill(child)
        return Ended(child.returncode, said)

    def end(self) -> None:
        """Ends those that are at work; whoever waits for one gets what it has said. None begins anew."""
        with self._lock:
            self._over = True
            for child in self._alive:
                _kill(child)

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        theirs, ours = os.pipe()
        try:
            with self._lock:
                child = self._start(theirs)
                self._alive.add(child)
                if self._over:
                    _kill(child)
            try:
                with child:
                    yield child
            finally:
                with self._lock:
                    self._alive.discard(child)
        finally:
            os.close(ours)

    def _start(self, pipe: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - our own module, and a number
                [sys.executable, "-I", "-m", self._module, str(pipe)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(pipe,),
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise StoreError(f"no process can be started: {error.strerror}") from error
        finally:
            os.close(pipe)


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """What a runtime may need to be found; nothing that the controller knows."""
    kept = ("PATH", "LD_LIBRARY_PATH")
    return {"LC_ALL": "C.UTF-8", **{name: os.environ[name] for name in kept if name in os.environ}}
