from dataclasses import replace

import msgspec
import pytest

from controller.errors import BadModel
from controller.registry.bundle import (
    Demands,
    Measured,
    Parts,
    Place,
    assemble,
    budgets,
    next_place,
    same_as,
)
from controller.registry.signature import Signature
from controller.registry.version import State, Version
from protos.documents import sha256
from protos.limits import MIB
from protos.manifest import Lineage, Manifest, Role, Semantic, Tensor, read_manifest
from tests.controller.registry.building import classifier, examined

FILES = {Role.MODEL: b"m", Role.REFERENCE: b"rr", Role.GOLDEN: b"ggg", Role.CARD: b"cccc"}
MEASURED = Measured(0.01, 100 * MIB, "onnxruntime", "1.31.1")
PARTS = Parts(
    model="things",
    onnx=examined(classifier()),
    signature=Signature(
        (Tensor(name="x", dtype="FP32", shape=(-1, 4), semantic=Semantic.NUMERIC),), ()
    ),
    files=FILES,
    measured=MEASURED,
    demands=Demands(),
    metrics={"accuracy": 0.9},
    lineage=Lineage(parent=1, registered_by="ann"),
)


def stored(manifest: Manifest, state: State = State.VALIDATED) -> Version:
    return Version(
        "things", manifest.version, state, manifest.encode(), manifest.digest, 0.0, "ann"
    )


def test_a_manifest_names_every_file_by_its_digest_and_reads_back() -> None:
    manifest = assemble(PARTS, 3, 5)

    assert read_manifest(manifest.encode()) == manifest
    assert (manifest.reference, manifest.release_counter) == ("things/3", 5)
    assert {role: (one.sha256, one.length) for role, one in manifest.files.items()} == {
        role: (sha256(data), len(data)) for role, data in FILES.items()
    }
    assert manifest.lineage.parent == 1
    assert manifest.needs.disk_bytes == 20
    assert manifest.needs.opset == 17


def test_budgets_are_the_measured_cost_times_a_factor_and_never_below_a_floor() -> None:
    found = budgets(MEASURED, Demands())

    assert (found.latency_p99_seconds, found.memory_bytes) == (0.25, 300 * MIB)
    small = budgets(Measured(1e-6, 1, "onnxruntime", "1.31.1"), Demands())
    assert (small.latency_p99_seconds, small.memory_bytes) == (0.05, 96 * MIB)


def test_what_is_demanded_goes_before_what_was_measured() -> None:
    found = budgets(MEASURED, Demands(latency_p99_seconds=0.002, memory_bytes=7))

    assert (found.latency_p99_seconds, found.memory_bytes) == (0.002, 7)


def test_a_newer_file_format_needs_the_runtime_that_it_was_tried_with() -> None:
    newer = replace(PARTS, onnx=replace(PARTS.onnx, opset=22))

    assert assemble(PARTS, 1, 1).needs.minimum_runtime == "1.20.0"
    assert assemble(newer, 1, 1).needs.minimum_runtime == "1.31.1"


def test_versions_and_release_counters_only_grow() -> None:
    versions = [
        stored(assemble(PARTS, 1, 4)),
        stored(assemble(PARTS, 2, 9), State.REJECTED),
        stored(assemble(PARTS, 5, 7), State.RECALLED),
    ]

    assert next_place([]) == Place(1, 1)
    assert next_place(versions) == Place(6, 10)


def test_a_manifest_that_is_too_large_is_refused() -> None:
    many = tuple(
        Tensor(name="n" * 200 + str(i), dtype="FP32", shape=(-1,), semantic=Semantic.OPAQUE)
        for i in range(5000)
    )

    with pytest.raises(BadModel, match="too many inputs and outputs"):
        assemble(replace(PARTS, signature=Signature(many, ())), 1, 1)


def test_the_same_model_on_the_same_reference_is_the_same_version() -> None:
    first = stored(assemble(PARTS, 1, 1))
    again = assemble(
        replace(PARTS, measured=Measured(9.0, 9, "onnxruntime", "2"), lineage=Lineage()), 2, 2
    )

    assert same_as(again, Demands(), [first]) == first
    assert same_as(again, Demands(), [replace(first, state=State.REJECTED)]) is None
    assert same_as(again, Demands(latency_p99_seconds=0.5), [first]) is None


@pytest.mark.parametrize("role", [Role.MODEL, Role.GOLDEN])
def test_another_file_is_another_version(role: Role) -> None:
    other = assemble(replace(PARTS, files={**FILES, role: b"other"}), 2, 2)

    assert same_as(other, Demands(), [stored(assemble(PARTS, 1, 1))]) is None


def test_another_meaning_of_a_tensor_is_another_version() -> None:
    opaque = msgspec.structs.replace(PARTS.signature.inputs[0], semantic=Semantic.OPAQUE)
    other = assemble(replace(PARTS, signature=Signature((opaque,), ())), 2, 2)

    assert same_as(other, Demands(), [stored(assemble(PARTS, 1, 1))]) is None
