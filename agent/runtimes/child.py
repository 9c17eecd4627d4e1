"""A child process that may fall over: started with nothing of the agent's, ended with its whole group."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import psutil


async def start_child(module: str, limit: int) -> Process:
    """Runs ``python -I -m module`` with pipes, in a session of its own.

    ``limit`` is of one line that it answers, in bytes.

    Raises:
        OSError: there can be no other process now.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", module),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd="/",
        env=_environment(),
        limit=limit,
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """What a runtime may need to be found; nothing that the agent knows."""
    kept = ("PATH", "LD_LIBRARY_PATH")
    return {"LC_ALL": "C.UTF-8", **{name: os.environ[name] for name in kept if name in os.environ}}


def send(child: Process, number: signal.Signals) -> None:
    """Sends the signal to the child's whole group; to nobody if it has ended."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)


async def end_child(child: Process) -> None:
    """Ends the child's whole group, and leaves no zombie."""
    send(child, signal.SIGKILL)
    await child.wait()


def resident_bytes(child: Process) -> int:
    """What it has in memory; 0 if it has just ended."""
    try:
        return int(psutil.Process(child.pid).memory_info().rss)
    except psutil.Error:
        return 0


def signal_name(number: int) -> str:
    """As people know it: SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
