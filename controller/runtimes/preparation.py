"""Tries models in a process of its own, with limits: whose author is unknown may be an attacker."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from controller import errors
from controller.errors import BadModel, ControllerError
from controller.registry.class_labels import UnknownLabels
from controller.registry.preparation import Parent, Prepared
from controller.registry.registration import Registration
from controller.runtimes.children import SECONDS, Children, Ended, half_of_memory
from controller.runtimes.preparation_job import Answer, Job
from controller.train_step.errors import NotTrainable

MODULE: Final = "controller.runtimes.preparation_process"

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
        self._memory = memory_bytes or half_of_memory()
        self._children = Children(MODULE)

    def __call__(self, request: Registration, parent: Parent | None) -> Prepared:
        """What ``controller.registry.preparation.prepare`` returns. Blocks.

        Raises:
            BadModel: also where trying it took too long, too much memory, or its process down.
            BadReference, InvalidInput, TooLarge: as it does.
            StoreError: no process can be started.
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
        ended = self._children.run(msgspec.msgpack.encode(job), job.seconds)
        try:
            answer = msgspec.msgpack.decode(ended.said, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadModel(f"{request.onnx_name}: {_death(ended, job)}") from None
        if answer.prepared is None:
            refusals = {one.code: one for one in _REFUSALS}
            raise refusals.get(answer.code, BadModel)(answer.detail)
        return answer.prepared


def _death(ended: Ended, job: Job) -> str:
    if ended.took_too_long:
        return f"it takes more than {job.seconds} s to check and to try"
    return f"the process that tried it {ended.how}"
