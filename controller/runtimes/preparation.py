"""Tries models in a process of its own, with limits: whose author is unknown may be an attacker."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
import psutil

from controller import errors
from controller.errors import BadModel, ControllerError
from controller.registry.class_labels import UnknownLabels
from controller.registry.preparation import Parent, Prepared
from controller.registry.registration import Registration
from controller.runtimes.preparation_job import Answer, Job
from controller.train_step.errors import NotTrainable
from protos.limits import MIB

SECONDS: Final = 900
LEAST_BYTES: Final = 1024 * MIB
AT_ONCE: Final = 2
"""So many models are tried at the same time; whoever asks for more waits."""

_TIME_SIGNALS: Final = {signal.SIGXCPU, signal.SIGALRM}
_REFUSALS: Final[Sequence[type[ControllerError]]] = (
    errors.BadModel,
    errors.BadReference,
    errors.InvalidInput,
    errors.TooLarge,
    NotTrainable,
    UnknownLabels,
    *NotTrainable.__subclasses__(),
)


class ProcessPreparation:
    """Prepares a registration in a child process. May be called from several threads.

    Args:
        generator: where registration takes its randomness from.
        seconds: for one model, its reference and its parent together.
        memory_bytes: for the same; half of the machine's if it is 0.
    """

    def __init__(
        self,
        generator: Callable[[], np.random.Generator] = np.random.default_rng,
        seconds: int = SECONDS,
        memory_bytes: int = 0,
    ) -> None:
        self._generator = generator
        self._seconds = seconds
        self._memory = memory_bytes or max(LEAST_BYTES, psutil.virtual_memory().total // 2)
        self._turn = threading.BoundedSemaphore(AT_ONCE)

    def __call__(self, request: Registration, parent: Parent | None) -> Prepared:
        """What ``controller.registry.preparation.prepare`` returns. Blocks.

        Raises:
            BadModel: also where trying it took too long, too much memory, or its process down.
            BadReference, InvalidInput, TooLarge: as it does.
        """
        seed = int(self._generator().integers(2**63))
        job = Job(
            model=request.model,
            onnx=request.onnx,
            reference=request.reference,
            onnx_name=request.onnx_name,
            reference_name=request.reference_name,
            semantics=request.semantics,
            policy=request.policy,
            training=request.training,
            parent=parent,
            seed=seed,
            seconds=self._seconds,
            memory_bytes=self._memory,
        )
        with self._turn:
            status, said = _run(job)
        try:
            answer = msgspec.msgpack.decode(said, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadModel(f"{request.onnx_name}: {_death(status, job)}") from None
        if answer.prepared is None:
            refusals = {one.code: one for one in _REFUSALS}
            raise refusals.get(answer.code, BadModel)(answer.detail)
        return answer.prepared


def _run(job: Job) -> tuple[int, bytes]:
    """Its exit status, and what it said."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", "controller.runtimes.preparation_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=_environment(),
        start_new_session=True,
    )
    with child:
        try:
            said, _ = child.communicate(msgspec.msgpack.encode(job), timeout=job.seconds + 30)
        except subprocess.TimeoutExpired:
            said = b""
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    return child.returncode, said


def _environment() -> dict[str, str]:
    """What a runtime may need to be found; nothing that the controller knows."""
    kept = ("PATH", "LD_LIBRARY_PATH")
    return {"LC_ALL": "C.UTF-8", **{name: os.environ[name] for name in kept if name in os.environ}}


def _death(status: int, job: Job) -> str:
    if -status in _TIME_SIGNALS:
        return f"it takes more than {job.seconds} s to check and to try"
    ended = f"status {status}" if status >= 0 else signal.Signals(-status).name
    return f"the process that tried it ended with {ended}: it crashed, or took too much memory"
