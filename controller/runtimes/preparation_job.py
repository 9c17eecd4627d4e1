"""What passes between the controller and the process that tries a model.

The job is pickled: the controller itself has made it. The answer is not: who made the model may have
taken over the process that answers.
"""

from dataclasses import dataclass

import msgspec

from controller.registry.preparation import Parent, Prepared
from controller.registry.registration import Registration


@dataclass(frozen=True, slots=True)
class Job:
    """What to prepare, and within which limits.

    Attributes:
        seed: of the randomness that thresholds are calibrated with.
        seconds: of processor time and of wall time, after which the kernel ends the process.
        memory_bytes: what it may take beyond the job itself.
    """

    request: Registration
    parent: Parent | None
    seed: int
    seconds: int
    memory_bytes: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. ``code`` is one of ``controller.errors``; empty if there is what was asked for."""

    prepared: Prepared | None = None
    code: str = ""
    detail: str = ""
