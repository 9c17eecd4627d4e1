"""What passes between the agent and the process that trains: lines of JSON, and raw arrays.

To the process: a ``Job``; the parameters, float32 and little endian, in the order of the step's
description; pieces of the training part, each behind its length in four bytes, and a length of 0; the
same of the hold-out. Back: ``Started``; ``Outcome``; the parameters, if it has trained.
"""

import struct
from typing import Final

import msgspec

from agent.federated.evaluation import Evaluation
from agent.federated.layout import Layout
from agent.federated.trainer import Bounds, Plan

LINE_BYTES: Final = 4 * 1024 * 1024
LENGTH: Final = struct.Struct("<I")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and within which limits.

    Attributes:
        parent: the agent's process: this one ends with it.
        reference: of the version, for messages.
        step_path: of the training step.
        step_sha256: its digest, as signed.
        model_sha256: of the version's model, as signed: the step must have been built from it.
        plan: None evaluates, and does not train.
        seconds: of processor time, after which the kernel ends the process.
        memory_bytes: over what there is before anything is loaded.
    """

    parent: int
    reference: str
    step_path: str
    step_sha256: str
    model_sha256: str
    layout: Layout
    plan: Plan | None
    bounds: Bounds
    threads: int
    seconds: float
    memory_bytes: int


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime is imported and nothing is loaded yet: what is resident now is not the step's."""

    resident_bytes: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. ``code`` is of an error that a trainer raises; empty if it went well."""

    code: str = ""
    detail: str = ""
    steps: int = 0
    examples: int = 0
    first_loss: float = 0.0
    last_loss: float = 0.0
    before: Evaluation = Evaluation()
    after: Evaluation = Evaluation()
    peak_bytes: int = 0
