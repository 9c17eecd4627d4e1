"""What passes between the controller and the process that tries a model: one message of msgpack each.

Neither side loads what could run: who made the model may have taken over the process that answers.
"""

from collections.abc import Mapping

import msgspec

from agent.monitor.reference import Policy
from controller.registry.preparation import Parent, Prepared
from controller.registry.registration import Registration
from controller.registry.training import Training
from protos.manifest import Semantic


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to prepare, and within which limits. The first eight are as a registration's.

    Attributes:
        seed: of the randomness that thresholds are calibrated with.
        seconds: of processor time and of wall time, after which the kernel ends the process.
        memory_bytes: what it may take beyond the job itself.
    """

    model: str
    onnx: bytes
    reference: bytes
    onnx_name: str
    reference_name: str
    semantics: Mapping[str, Semantic]
    policy: Policy | None
    training: Training | None
    parent: Parent | None
    seed: int
    seconds: int
    memory_bytes: int

    @property
    def request(self) -> Registration:
        """As far as it is prepared there; its gates are asked by the controller."""
        return Registration(
            model=self.model,
            onnx=self.onnx,
            reference=self.reference,
            onnx_name=self.onnx_name,
            reference_name=self.reference_name,
            semantics=self.semantics,
            policy=self.policy,
            training=self.training,
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. ``code`` is one of ``controller.errors``; empty if there is what was asked for."""

    prepared: Prepared | None = None
    code: str = ""
    detail: str = ""
