"""Real processes on this machine: the controller, the agents, and the commands of an operator."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")
SCRIPTS = Path(sys.executable).parent


class ProcessFailed(Exception):
    """A process ended, or did not get ready; the message holds the end of what it wrote."""


class Daemon:
    """A process that is meant to stay: started, killed and started again with the same command."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False

    def start(self) -> None:
        """Starts the process; its output is appended to ``log``."""
        self._wanted = True
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own scripts
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id; 0 before it was started."""
        return self._process.pid if self._process else 0

    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def failed(self) -> bool:
        """Whether the process is not there, and nobody has ended it."""
        return self._wanted and not self.running()

    def kill(self) -> None:
        """``kill -9``, of the process and its children."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Asks the process to end, and makes it after ten seconds."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        self._wanted = False
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)

    def last_words(self, lines: int = 15) -> str:
        """The end of the process's output."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def run_command(
    command: Sequence[str], environment: Mapping[str, str], timeout: float = 120
) -> str:
    """Standard output of a command that must succeed.

    Raises:
        ProcessFailed: it did not.
    """
    done = subprocess.run(  # noqa: S603 - our own scripts
        list(command),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        shown = " ".join(Path(part).name if i == 0 else part for i, part in enumerate(command))
        raise ProcessFailed(f"{shown[:200]}: status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def run_json(command: Sequence[str], environment: Mapping[str, str], timeout: float = 120) -> Any:
    """What a command with ``--output json`` prints."""
    return json.loads(run_command([*command, "--output", "json"], environment, timeout))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment, and that no connection gets by itself."""
    rng = random.SystemRandom()
    found: list[int] = []
    while len(found) < count:
        port = rng.randrange(10_000, _first_for_connections())
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def _first_for_connections() -> int:
    """From here on the system gives ports to connections: a server's could be gone when it starts."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def wait_for(
    what: str,
    probe: Callable[[], Found | None],
    seconds: float,
    daemons: Sequence[Daemon] = (),
    interval: float = 0.2,
) -> Found:
    """What ``probe`` finds, asked again until it finds something.

    Raises:
        ProcessFailed: it took longer, or one of ``daemons`` ended meanwhile.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        found = probe()
        if found is not None:
            return found
        for daemon in daemons:
            if daemon.failed():
                raise ProcessFailed(f"{daemon.name} ended\n{daemon.last_words()}")
        if time.monotonic() > deadline:
            words = "\n".join(f"--- {daemon.name}\n{daemon.last_words()}" for daemon in daemons)
            raise ProcessFailed(f"after {seconds:.0f} s still no {what}\n{words}")
        pause.wait(interval)
