"""What a person asks for when they register a version, and what comes of it: values only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.monitor.reference import Policy
from controller.errors import InvalidInput
from controller.registry import training as train
from controller.registry.author_text import AuthorText
from controller.registry.bundle import Demands
from controller.registry.gates import Gate, default_gates
from controller.registry.training import Training
from controller.registry.version import Version
from protos.limits import MODEL_NAME
from protos.manifest import Manifest, Semantic

_MODEL_NAME: Final = re.compile(MODEL_NAME)


@dataclass(frozen=True, slots=True)
class Registration:
    """A model file and the data it is to be watched by.

    Attributes:
        onnx, reference: the files' bytes; ``onnx_name`` and ``reference_name`` are for messages.
        semantics: by tensor name, what it means where that should not be inferred.
        parent: the version it follows and is compared with; None for the newest published one.
        policy: how the version is watched; None for the defaults.
        training: how devices may train it; None for a version that they may not.
    """

    model: str
    onnx: bytes
    reference: bytes
    onnx_name: str = "model.onnx"
    reference_name: str = "reference.npz"
    semantics: Mapping[str, Semantic] = field(default_factory=dict)
    text: AuthorText = field(default_factory=AuthorText)
    demands: Demands = field(default_factory=Demands)
    gates: Gate = field(default_factory=default_gates)
    policy: Policy | None = None
    training: Training | None = None
    parent: int | None = None
    training_run: str = ""
    round: int | None = None
    git_commit: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """A version that is there now: validated, or rejected with its reasons.

    ``notes`` say what was done to the data, and what a person should know of the profile.
    """

    version: Version
    manifest: Manifest
    notes: tuple[str, ...]


def check(request: Registration) -> None:
    """Passes if name and demands are possible.

    Raises:
        InvalidInput: they are not; names the field.
    """
    if not _MODEL_NAME.fullmatch(request.model):
        raise InvalidInput(
            f"model {request.model[:80]!r}: a name has lowercase letters, digits and hyphens, "
            "at most 64, such as digits"
        )
    latency, memory = request.demands.latency_p99_seconds, request.demands.memory_bytes
    if latency is not None and not 0 < latency < 3600:
        raise InvalidInput(f"latency budget {latency!r}: seconds above 0 and below 3600")
    if memory is not None and not 0 < memory < 2**50:
        raise InvalidInput(f"memory budget {memory!r}: bytes above 0")
    if request.training is not None:
        train.check(request.training)
