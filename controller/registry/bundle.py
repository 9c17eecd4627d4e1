"""The bundle of a version: its files by digest and the manifest that names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.errors import BadModel
from controller.registry.onnx_file import OnnxFile
from controller.registry.signature import Signature
from controller.registry.version import State, Version
from protos.documents import sha256
from protos.limits import MANIFEST_BYTES, MIB
from protos.manifest import (
    Budgets,
    File,
    Lineage,
    Manifest,
    Needs,
    Role,
    read_manifest,
)

LATENCY_FACTOR: Final = 25.0
"""A device may be so much slower than the controller, for one row."""
LATENCY_FLOOR_SECONDS: Final = 0.05
MEMORY_FACTOR: Final = 3.0
MEMORY_FLOOR_BYTES: Final = 96 * MIB
"""What a runtime takes for the smallest model, its own code included."""
DISK_FACTOR: Final = 2
"""The new version's files beside those of the version that runs."""

# Every onnxruntime that an agent may have runs these; of newer ones only what was tried is known.
OLDEST_RUNTIME: Final = "1.20.0"
OLDEST_RUNTIME_OPSET: Final = 21
OLDEST_RUNTIME_IR: Final = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """What the run over the reference cost on the controller.

    ``memory_bytes`` is by how much the process grew when the model was loaded and run.
    """

    latency_p99_seconds: float
    memory_bytes: int
    runtime: str
    runtime_version: str


@dataclass(frozen=True, slots=True)
class Demands:
    """What a person sets in place of what was measured; None leaves it."""

    latency_p99_seconds: float | None = None
    memory_bytes: int | None = None
    arch: tuple[str, ...] = ()
    minimum_agent: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of a bundle but its place among the model's versions."""

    model: str
    onnx: OnnxFile
    signature: Signature
    files: Mapping[Role, bytes]
    measured: Measured
    demands: Demands
    metrics: Mapping[str, float]
    lineage: Lineage


def assemble(parts: Parts, version: int, release_counter: int) -> Manifest:
    """The manifest of these parts.

    Raises:
        BadModel: it is larger than a manifest may be.
    """
    files = {
        role: File(sha256=sha256(data), length=len(data)) for role, data in parts.files.items()
    }
    manifest = Manifest(
        model=parts.model,
        version=version,
        release_counter=release_counter,
        inputs=parts.signature.inputs,
        outputs=parts.signature.outputs,
        files=files,
        needs=needs(parts),
        budgets=budgets(parts.measured, parts.demands),
        metrics=parts.metrics,
        lineage=parts.lineage,
        minimum_agent=parts.demands.minimum_agent,
    )
    size = len(manifest.encode())
    if size > MANIFEST_BYTES:
        raise BadModel(
            f"{parts.model}: its manifest has {size:,} bytes, {MANIFEST_BYTES:,} at most: "
            "the model has too many inputs and outputs"
        )
    return manifest


def budgets(measured: Measured, demands: Demands) -> Budgets:
    """What the version may cost on a device: the measured cost times a generous factor."""
    latency = max(measured.latency_p99_seconds * LATENCY_FACTOR, LATENCY_FLOOR_SECONDS)
    memory = max(int(measured.memory_bytes * MEMORY_FACTOR), MEMORY_FLOOR_BYTES)
    return Budgets(
        latency_p99_seconds=demands.latency_p99_seconds or round(latency, 6),
        memory_bytes=demands.memory_bytes or memory,
    )


def needs(parts: Parts) -> Needs:
    """What a device must have. A newer file format asks for the runtime that it was tried with."""
    onnx = parts.onnx
    old = onnx.opset <= OLDEST_RUNTIME_OPSET and onnx.ir_version <= OLDEST_RUNTIME_IR
    return Needs(
        runtime=parts.measured.runtime,
        minimum_runtime=OLDEST_RUNTIME if old else parts.measured.runtime_version,
        opset=onnx.opset,
        memory_bytes=parts.demands.memory_bytes or max(parts.measured.memory_bytes, onnx.length),
        disk_bytes=DISK_FACTOR * sum(len(data) for data in parts.files.values()),
        arch=parts.demands.arch,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a new version stands among those of its model."""

    version: int
    release_counter: int


def next_place(versions: Sequence[Version]) -> Place:
    """The place after all ``versions`` of a model: both numbers only ever grow."""
    counters = [read_manifest(one.manifest).release_counter for one in versions]
    numbers = [one.version for one in versions]
    return Place(max(numbers, default=0) + 1, max(counters, default=0) + 1)


def same_as(manifest: Manifest, demands: Demands, versions: Sequence[Version]) -> Version | None:
    """The version that is the same but for its place, its card and how it was measured, if any.

    The same model on the same reference: file, golden vectors, signature, metrics, and budgets
    where they are demanded. Versions that were rejected do not count: what was wrong may have been
    the gates.
    """
    for one in versions:
        other = read_manifest(one.manifest)
        if one.state is not State.REJECTED and _essence(other, demands) == _essence(
            manifest, demands
        ):
            return one
    return None


def _essence(manifest: Manifest, demands: Demands) -> tuple[object, ...]:
    budgets = manifest.budgets
    return (
        manifest.files[Role.MODEL],
        manifest.files[Role.GOLDEN],
        manifest.files.get(Role.TRAIN_STEP),
        manifest.inputs,
        manifest.outputs,
        dict(manifest.metrics),
        manifest.needs.arch,
        manifest.minimum_agent,
        demands.latency_p99_seconds and budgets.latency_p99_seconds,
        demands.memory_bytes and budgets.memory_bytes,
    )
