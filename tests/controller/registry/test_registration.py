"""A model becomes a version with all that belongs to it, or leaves nothing behind."""

import pytest

from agent.inference.golden import compare, decode
from agent.monitor.reference import read_reference as read_profile
from controller.errors import BadModel, BadReference, Conflict, InvalidInput, NotFound
from controller.registry import actions
from controller.registry.bundle import Demands
from controller.registry.card import markdown
from controller.registry.gates import AllOf, MetricAtLeast, MinimumRows
from controller.registry.preparation import Prepared
from controller.registry.registration import Registered
from controller.registry.version import State
from protos.documents import sha256
from protos.manifest import REQUIRED_FILES, Role, Semantic, read_manifest
from simulations.memory_controller_blobs import MemoryControllerBlobs
from tests.controller.registry.building import classifier, npz, unary
from tests.controller.registry.registry import NOW, Registry, X


def test_a_version_is_kept_with_how_right_its_answers_are_by_their_confidence(
    one: tuple[Registry, Registered], registry: Registry
) -> None:
    known, found = one
    registry.register(classifier(), reference=npz(x=X))
    registry.register(unary())

    with known.tx() as tx:
        seen = tx.totals.estimator("things", 1)
    with registry.tx() as tx:
        blind, none = (tx.totals.estimator("things", number) for number in (1, 2))

    assert seen is not None
    profile = read_profile(known.blob(found, Role.REFERENCE))
    assert seen.profile_sha256 == profile.digest
    assert profile.series[seen.index].name == "probabilities.confidence"
    cells = profile.series[seen.index].counts[: len(seen.right)]
    expected = sum(count * share for count, share in zip(cells, seen.right, strict=True))
    assert expected / 400 == pytest.approx(found.manifest.metrics["accuracy"], abs=1e-4)
    assert blind is not None
    assert blind.right == ()
    assert none is None


def test_a_good_model_becomes_a_validated_version_with_its_whole_bundle(
    one: tuple[Registry, Registered],
) -> None:
    registry, found = one
    manifest = found.manifest

    assert found.version.state is State.VALIDATED
    assert (found.version.registered_by, found.version.registered_at) == ("ann", NOW)
    assert read_manifest(found.version.manifest) == manifest
    assert registry.blobs.has(found.version.manifest_sha256)
    assert set(manifest.files) == set(REQUIRED_FILES)
    for role, file in manifest.files.items():
        data = registry.blob(found, role)
        assert (sha256(data), len(data)) == (file.sha256, file.length)


def test_the_signature_is_what_the_file_and_the_reference_show(
    one: tuple[Registry, Registered],
) -> None:
    manifest = one[1].manifest

    assert [(t.name, t.dtype, t.shape, t.semantic) for t in manifest.inputs] == [
        ("x", "FP32", (-1, 4), Semantic.NUMERIC)
    ]
    assert [(t.name, t.semantic) for t in manifest.outputs] == [
        ("label", Semantic.LABEL),
        ("probabilities", Semantic.PROBABILITY),
    ]
    assert manifest.inputs[0].minimum == X.min()
    assert manifest.inputs[0].maximum == X.max()


def test_the_metrics_are_those_of_the_reference(one: tuple[Registry, Registered]) -> None:
    # The truth of one row in twenty was made wrong.
    assert one[1].manifest.metrics["accuracy"] == pytest.approx(0.95)


def test_a_device_with_the_same_runtime_passes_the_golden_vectors(
    one: tuple[Registry, Registered],
) -> None:
    registry, found = one
    vectors = decode(registry.blob(found, Role.GOLDEN))
    model = registry.runtime.load(registry.blob(found, Role.MODEL), found.manifest)

    names = list(vectors.outputs)
    outputs = dict(zip(names, model.run(vectors.inputs, names), strict=True))
    model.close()

    assert compare(vectors, outputs).objections == ()
    assert set(vectors.outputs["label"].tolist()) == {0, 1, 2}


def test_the_profile_is_the_monitors_and_named_in_the_lineage(
    one: tuple[Registry, Registered],
) -> None:
    registry, found = one
    profile = read_profile(registry.blob(found, Role.REFERENCE))

    assert profile.rows == 400
    assert profile.digest == found.manifest.lineage.data_profile
    assert found.manifest.lineage.registered_by == "ann"


def test_the_card_is_for_people_too(one: tuple[Registry, Registered]) -> None:
    registry, _ = one
    with registry.tx() as tx:
        page = markdown(actions.card_of(tx, registry.blobs, "things/1"))

    assert page.startswith("# things/1\n")
    assert "* accuracy: 0.95\n" in page


def test_what_was_done_is_in_the_audit_and_progress_was_told(
    one: tuple[Registry, Registered],
) -> None:
    registry, found = one
    with registry.tx() as tx:
        entries = [record.entry for record in tx.audit.records()]

    assert [(entry.actor, entry.action, entry.subject) for entry in entries] == [
        ("ann", "version.register", "things/1")
    ]
    assert entries[0].detail["manifest"] == found.version.manifest_sha256
    assert registry.told[0][0] == "check the model"
    assert registry.told[-1] == ("judge", 1.0)
    assert all(0 <= share <= 1 for _, share in registry.told)


def test_the_same_again_is_a_conflict_that_names_the_version(
    one: tuple[Registry, Registered], prepared: Prepared
) -> None:
    registry, _ = one

    with pytest.raises(Conflict, match=r"model.onnx with reference.npz is things/1 already"):
        registry.insert(prepared)
    with registry.tx() as tx:
        assert len(tx.registry.versions()) == 1
        assert len(tx.audit.records()) == 1


def test_a_version_that_fails_its_gates_is_rejected_with_every_reason(
    registry: Registry, prepared: Prepared
) -> None:
    gates = AllOf((MinimumRows(1000), MetricAtLeast("accuracy", 0.99)))

    found = registry.register(classifier(), gates=gates)
    again = registry.insert(prepared)

    assert found.version.state is State.REJECTED
    assert found.version.reasons == (
        "400 rows of reference data, needs 1,000",
        "accuracy is 0.95, needs at least 0.99",
    )
    assert (again.version.version, again.version.state) == (2, State.VALIDATED)
    assert again.manifest.release_counter == 2


def test_a_version_is_measured_against_its_parent_on_the_same_rows(
    registry: Registry, versions: list[Registered]
) -> None:
    registry.publish(versions[0])

    worse = registry.register(classifier(scale=-1))

    assert worse.manifest.lineage.parent == 1
    assert worse.version.state is State.REJECTED
    assert "things/1 has 0.95, needs at least 0.93" in worse.version.reasons[0]


def test_a_parent_with_other_inputs_is_not_compared_and_that_is_said(
    registry: Registry, versions: list[Registered]
) -> None:
    x = npz(x=X[:, :1], y=X[:, 0])

    found = registry.register(unary("Neg", shape=("N", 1)), reference=x, parent=2)

    assert found.manifest.lineage.parent == 2
    assert found.manifest.metrics["mae"] > 0
    assert "not compared with things/2: its inputs are others" in found.notes


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"model": "Digits!"}, InvalidInput, "model 'Digits!': a name has lowercase letters"),
        ({"onnx": b"hello"}, BadModel, r"model.onnx: not an ONNX file"),
        ({"reference": b"hello"}, BadReference, r"reference.npz: not an .npz file"),
        ({"reference": npz(x=X[:, :2])}, BadReference, "array 'x'"),
        ({"semantics": {"q": Semantic.IMAGE}}, InvalidInput, "override 'q'"),
        ({"demands": Demands(latency_p99_seconds=0.0)}, InvalidInput, "latency budget 0.0"),
        ({"demands": Demands(memory_bytes=-1)}, InvalidInput, "memory budget -1"),
        ({"parent": 7}, NotFound, "no version things/7"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    registry: Registry, changes: dict[str, object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        registry.register(classifier(), **changes)

    with registry.tx() as tx:
        assert (tx.registry.models(), tx.registry.versions(), tx.audit.records()) == ([], [], [])


class FailingBlobs(MemoryControllerBlobs):
    """Blobs on a disk that is full after some files."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def put(self, data: bytes) -> str:
        self.room -= 1
        if self.room < 0:
            raise OSError("no space left on device")
        return super().put(data)


@pytest.mark.parametrize("room", range(5))
def test_a_crash_between_any_two_files_leaves_no_version(
    registry: Registry, prepared: Prepared, room: int
) -> None:
    registry.blobs = FailingBlobs(room)

    with pytest.raises(OSError, match="no space left"):
        registry.insert(prepared)

    with registry.tx() as tx:
        assert (tx.registry.models(), tx.registry.versions(), tx.audit.records()) == ([], [], [])
