"""Tests a version on its golden inputs, in a process of its own that it may take down."""

import asyncio
import contextlib
import logging
import signal
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from agent.errors import (
    AgentError,
    HashMismatch,
    ModelLoadFailed,
    NoProcess,
    SelfTestCrashed,
    SelfTestKilled,
    SelfTestMemory,
    SelfTestMismatch,
    SelfTestSlow,
    SelfTestTimeout,
)
from agent.install.ports import SelfTestResult
from agent.runtimes.child import end_child, resident_bytes, signal_name, start_child
from agent.runtimes.self_test_job import LINE_BYTES, Job, Outcome, Started
from protos.limits import MIB
from protos.manifest import Manifest, Role

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.01
_BY_CODE: Final[dict[str, type[AgentError]]] = {
    one.code: one for one in (ModelLoadFailed, SelfTestMismatch, SelfTestMemory, HashMismatch)
}
_FOREIGN_SIGNALS: Final = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_TIMEOUT_SIGNALS: Final = {signal.SIGXCPU, signal.SIGALRM}

M = TypeVar("M", Started, Outcome)


class ProcessSelfTest:
    """Runs golden inputs in a child process with limits; see ``agent.install.ports.SelfTest``.

    Args:
        path_of: where the blob of a digest lies. The child checks the digest of what it reads.
        timeout_seconds: for all of it, loading included.
    """

    def __init__(self, path_of: Callable[[str], Path], timeout_seconds: float = 60.0) -> None:
        self._path_of = path_of
        self._timeout = timeout_seconds

    async def run(self, manifest: Manifest) -> SelfTestResult:
        """The result of a test that passed.

        Raises:
            ModelLoadFailed: the runtime can't load the model.
            HashMismatch: a file is not there, or not the one that was signed.
            SelfTestMismatch: an output is off; names it and says by how much.
            SelfTestCrashed: the child died; names the signal.
            SelfTestKilled: somebody ended it: no model can send such a signal by accident.
            SelfTestTimeout: it did not end in time.
            SelfTestMemory: it took more than the manifest's budget.
            SelfTestSlow: it is slower than the manifest's budget.
            NoProcess: there could be no test, for want of memory or processes.
        """
        child = await _started(manifest)
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await _converse(child, self._job(manifest), manifest)
        except TimeoutError:
            raise SelfTestTimeout(
                f"{manifest.reference}: no result after {self._timeout:g} s"
            ) from None
        finally:
            await end_child(child)
        return _judged(outcome, manifest)

    def _job(self, manifest: Manifest) -> Job:
        return Job(
            manifest=manifest.encode().decode(),
            model_path=str(self._path_of(manifest.files[Role.MODEL].sha256).absolute()),
            golden_path=str(self._path_of(manifest.files[Role.GOLDEN].sha256).absolute()),
            seconds=self._timeout,
            measuring_seconds=self._timeout / 4,
        )


async def _started(manifest: Manifest) -> Process:
    try:
        return await start_child("agent.runtimes.self_test_process", LINE_BYTES)
    except OSError as error:
        raise NoProcess(f"{manifest.reference}: no process to test it in: {error}") from error


async def _converse(child: Process, job: Job, manifest: Manifest) -> Outcome:
    """The child's outcome, unless it takes more memory than the budget before it has one."""
    if child.stdin is None or child.stdout is None:
        raise SelfTestCrashed(f"{manifest.reference}: the test process has no pipes")
    with contextlib.suppress(ConnectionError):  # it is dead already: reading says so
        child.stdin.write(msgspec.json.encode(job) + b"\n")
        await child.stdin.drain()
    started = await _message(child, child.stdout, Started, manifest)
    ending = asyncio.ensure_future(_message(child, child.stdout, Outcome, manifest))
    try:
        allowed = started.resident_bytes + manifest.budgets.memory_bytes
        while not ending.done():
            await asyncio.wait({ending}, timeout=POLL_SECONDS)
            resident = resident_bytes(child)
            if resident > allowed and not ending.done():
                raise SelfTestMemory(
                    _over_budget(manifest, resident - started.resident_bytes) + ", and was stopped"
                )
        return ending.result()
    finally:
        ending.cancel()


async def _message(
    child: Process, stdout: asyncio.StreamReader, kind: type[M], manifest: Manifest
) -> M:
    try:
        line = await stdout.readline()
    except ValueError as error:  # longer than the limit
        raise SelfTestCrashed(f"{manifest.reference}: the test process babbled") from error
    if not line:
        raise _died(await child.wait(), manifest)
    try:
        return msgspec.json.decode(line, type=kind)
    except ValueError as error:
        raise SelfTestCrashed(f"{manifest.reference}: the test process babbled") from error


def _died(status: int, manifest: Manifest) -> AgentError:
    if status < 0 and -status in _TIMEOUT_SIGNALS:
        return SelfTestTimeout(f"{manifest.reference}: stopped by {signal_name(-status)}")
    if status < 0 and -status in _FOREIGN_SIGNALS:
        return SelfTestKilled(
            f"{manifest.reference}: the test process was ended from outside by "
            f"{signal_name(-status)}"
        )
    if status < 0:
        return SelfTestCrashed(
            f"{manifest.reference}: the test process was ended by {signal_name(-status)}"
        )
    return SelfTestCrashed(
        f"{manifest.reference}: the test process ended with status {status} and no result"
    )


def _judged(outcome: Outcome, manifest: Manifest) -> SelfTestResult:
    if outcome.code:
        log.warning("self_test.failed version=%s code=%s", manifest.reference, outcome.code)
        raise _BY_CODE.get(outcome.code, SelfTestCrashed)(outcome.detail)
    if outcome.peak_bytes > manifest.budgets.memory_bytes:
        raise SelfTestMemory(_over_budget(manifest, outcome.peak_bytes))
    if outcome.p99_seconds > manifest.budgets.latency_p99_seconds:
        raise SelfTestSlow(
            f"{manifest.reference}: p99 of {outcome.p99_seconds * 1e3:.3g} ms; the budget is "
            f"{manifest.budgets.latency_p99_seconds * 1e3:.3g} ms"
        )
    return SelfTestResult(
        p99_seconds=outcome.p99_seconds,
        peak_memory_bytes=outcome.peak_bytes,
        max_difference=outcome.max_difference,
    )


def _over_budget(manifest: Manifest, taken: int) -> str:
    return (
        f"{manifest.reference}: took {taken / MIB:.1f} MiB; "
        f"the budget is {manifest.budgets.memory_bytes / MIB:.1f} MiB"
    )
