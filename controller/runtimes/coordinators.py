"""The seam to the processes that coordinate federated runs, and the real ones.

A coordinator is told news by a byte on its standard input, and ends when that is closed. It asks that
devices be told by a byte on its standard output. What it says stands in ``FOLDER/RUN.log``.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from controller.errors import StoreError
from controller.federated.actions import require_flower

MODULE: Final = "controller.federated.coordinator"
MOST_LOG_BYTES: Final = 8 * 1024 * 1024


class Coordinator(Protocol):
    """One that was started."""

    def wake(self) -> None:
        """There is news."""
        ...

    async def ended(self) -> int:
        """Its exit status, once it has ended; negative for a signal."""
        ...

    def kill(self) -> None:
        """Ends it at once, with what it has started. Harmless if it has ended."""
        ...


class Coordinators(Protocol):
    """Starts them."""

    async def start(self, run: str, tell: Callable[[], None]) -> Coordinator:
        """Starts one for the run; ``tell`` is called when devices have to be told.

        Raises:
            FlowerMissing: what coordinates is not installed.
            StoreError: no process can be started.
        """
        ...


class CoordinatorProcesses:
    """``Coordinators``: each a Python process on the controller's folder."""

    def __init__(self, home: Path, logs: Path, module: str = MODULE) -> None:
        self._home = home
        self._logs = logs
        self._module = module

    async def start(self, run: str, tell: Callable[[], None]) -> "CoordinatorProcess":  # noqa: D102
        require_flower()
        words = (sys.executable, "-m", self._module, "--home", str(self._home), "--run", run)
        try:
            self._logs.mkdir(mode=0o700, exist_ok=True)
            log = await asyncio.to_thread(_opened, self._logs / f"{run}.log")
        except OSError as error:
            raise StoreError(f"{self._logs}: {error.strerror}") from error
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the controller, which ends the group
            )
        except OSError as error:
            raise StoreError(f"a coordinator can't be started: {error.strerror}") from error
        finally:
            os.close(log)
        return CoordinatorProcess(process, tell)


class CoordinatorProcess:
    """``Coordinator``."""

    def __init__(self, process: asyncio.subprocess.Process, tell: Callable[[], None]) -> None:
        self._process = process
        self._listening = asyncio.create_task(self._listen(tell))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wake(self) -> None:  # noqa: D102 - see the Protocol
        pipe = self._process.stdin
        if (
            pipe is not None
            and not pipe.is_closing()
            and not pipe.transport.get_write_buffer_size()
        ):
            pipe.write(b".")

    async def ended(self) -> int:  # noqa: D102
        status = await self._process.wait()
        self.kill()  # what it leaves behind
        await self._listening
        return status

    def kill(self) -> None:  # noqa: D102
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _listen(self, tell: Callable[[], None]) -> None:
        pipe = self._process.stdout
        while pipe is not None and await pipe.read(4096):
            tell()


def _opened(path: Path) -> int:
    """The log, to append to; a long one begins anew."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(path, flags, 0o600)
    if os.fstat(log).st_size > MOST_LOG_BYTES:
        os.ftruncate(log, 0)
    return log
