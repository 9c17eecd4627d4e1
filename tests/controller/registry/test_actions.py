import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import pytest

from agent.inference.golden import compare, decode
from agent.monitor.reference import read_reference as read_profile
from agent.runtimes.onnx import OnnxRuntime
from controller.errors import BadModel, BadReference, Conflict, InvalidInput, NotFound
from controller.registry import actions
from controller.registry.bundle import Demands
from controller.registry.card import markdown
from controller.registry.gates import AllOf, MetricAtLeast, MinimumRows
from controller.registry.preparation import Prepared, prepare
from controller.registry.registration import Registered, Registration
from controller.registry.trial import Gauges
from controller.registry.version import Change, Event, Pending, State, step
from controller.store.store import Transaction
from protos.documents import sha256
from protos.manifest import REQUIRED_FILES, Role, Semantic, read_manifest
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.controller.registry.building import classifier, npz, rows_and_truth, unary

X, Y = rows_and_truth(400)
REFERENCE = npz(x=X, y=Y)
NOW = 1_790_000_000.25


def request(graph: onnx.ModelProto) -> Registration:
    return Registration("things", graph.SerializeToString(), REFERENCE)


class Registry:
    """A registry on a store and blobs in memory, with the runtime of the devices."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.blobs = MemoryControllerBlobs()
        self.runtime = OnnxRuntime()
        self.told: list[tuple[str, float]] = []

    def register(self, graph: onnx.ModelProto, **changes: object) -> Registered:
        asked = dataclasses.replace(request(graph), **changes)  # type: ignore[arg-type]
        return actions.register(
            self.store,
            self.blobs,
            self.runtime,
            asked,
            "ann",
            NOW,
            np.random.default_rng(5),
            lambda what, share: self.told.append((what, share)),
        )

    def insert(self, prepared: Prepared, graph: onnx.ModelProto | None = None) -> Registered:
        asked = request(graph or classifier())
        return actions.insert(self.store, self.blobs, asked, prepared, "ann", NOW)

    @contextmanager
    def tx(self) -> Iterator[Transaction]:
        with self.store.begin() as tx:
            yield tx

    def publish(self, registered: Registered) -> None:
        """As the approvers' signatures will."""
        version = registered.version
        for event in (Event.SIGNED_ENOUGH, Event.PUBLISHED):
            version = dataclasses.replace(version, state=step(version.state, event))
        with self.tx() as tx:
            tx.registry.put_version(version)

    def blob(self, registered: Registered, role: Role) -> bytes:
        return b"".join(self.blobs.read(registered.manifest.files[role].sha256))


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture(scope="module")
def one() -> tuple[Registry, Registered]:
    """A registry with one version; tests that ask for it change nothing."""
    registry = Registry()
    return registry, registry.register(classifier())


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """A classifier's parts, to be made a version without running it again."""
    return prepare(
        OnnxRuntime(),
        request(classifier()),
        None,
        Gauges(itertools.count().__next__, lambda: 0),
        np.random.default_rng(5),
        actions.silent,
    )


@pytest.fixture
def versions(registry: Registry, prepared: Prepared) -> list[Registered]:
    """Versions 1 and 2 of things, validated, told apart by their metrics alone."""
    return [
        registry.insert(dataclasses.replace(prepared, metrics={"accuracy": value}))
        for value in (0.95, 0.96)
    ]


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


def test_a_version_is_found_by_number_by_alias_and_as_the_newest_published(
    registry: Registry, versions: list[Registered]
) -> None:
    first, second = versions
    with registry.tx() as tx:
        with pytest.raises(NotFound, match="no version of 'things' is published yet"):
            actions.resolve(tx, "things")
        actions.set_alias(tx, "things", "champion", 1, "ann", NOW)

    registry.publish(second)
    with registry.tx() as tx:
        assert actions.resolve(tx, "things/1") == first.version
        assert actions.resolve(tx, "things@champion") == first.version
        assert actions.resolve(tx, "things").version == 2
        assert actions.show_version(tx, "things@champion").aliases == ("champion",)
        assert [one.version.version for one in actions.show_model(tx, "things").versions] == [1, 2]
        assert [one.model.name for one in actions.list_models(tx)] == ["things"]


@pytest.mark.parametrize(
    ("named", "error", "reason"),
    [
        ("", InvalidInput, "write MODEL, MODEL/VERSION or MODEL@ALIAS"),
        ("things/0", InvalidInput, "write MODEL"),
        ("things/x", InvalidInput, "write MODEL"),
        ("things@", InvalidInput, "write MODEL"),
        ("things/1\n", InvalidInput, "write MODEL"),
        ("others", NotFound, "no model 'others'"),
        ("things/9", NotFound, "no version things/9"),
        ("things@best", NotFound, "has no alias 'best'; there are: none"),
    ],
)
def test_a_name_that_names_nothing_is_refused(
    one: tuple[Registry, Registered], named: str, error: type[Exception], reason: str
) -> None:
    with one[0].tx() as tx, pytest.raises(error, match=reason):
        actions.resolve(tx, named)


def test_an_alias_moves_and_goes_and_each_is_audited(
    registry: Registry, versions: list[Registered]
) -> None:
    with registry.tx() as tx:
        for version in (1, 2, 2):
            actions.set_alias(tx, "things", "champion", version, "ann", NOW)
        assert tx.registry.aliases("things") == {"champion": 2}
        actions.remove_alias(tx, "things", "champion", "bo", NOW)
        with pytest.raises(NotFound, match="no alias 'champion'"):
            actions.remove_alias(tx, "things", "champion", "bo", NOW)

        told = [
            (one.entry.actor, one.entry.action, dict(one.entry.detail))
            for one in tx.audit.records()
        ]
    assert told[2:] == [
        ("ann", "alias.set", {"version": "1", "before": ""}),
        ("ann", "alias.set", {"version": "2", "before": "1"}),
        ("bo", "alias.remove", {"before": "2"}),
    ]


@pytest.mark.parametrize("alias", ["", "3", "Champion", "a b", "-a"])
def test_an_alias_must_be_a_name_and_no_number(
    one: tuple[Registry, Registered], alias: str
) -> None:
    with one[0].tx() as tx, pytest.raises(InvalidInput, match="alias"):
        actions.set_alias(tx, "things", alias, 1, "ann", NOW)


def test_a_withdrawn_version_is_rejected_with_its_aliases_and_what_waits(
    registry: Registry, versions: list[Registered]
) -> None:
    with registry.tx() as tx:
        actions.set_alias(tx, "things", "next", 1, "ann", NOW)
        tx.registry.put_pending(Pending("things", 1, Change.ADD, b"{}", NOW, "ann"))

        found = actions.withdraw(tx, "things", 1, "wrong data", "bo", NOW)

        assert found.state is State.REJECTED
        assert found.reasons == ("withdrawn by bo: wrong data",)
        assert tx.registry.aliases("things") == {}
        assert tx.registry.pending("things", 1) is None
        assert tx.audit.records()[-1].entry.action == "version.withdraw"
        with pytest.raises(Conflict, match="things/1 is rejected: it can't be withdrawn"):
            actions.withdraw(tx, "things", 1, "", "bo", NOW)
        with pytest.raises(Conflict, match="things/1 is rejected: no alias"):
            actions.set_alias(tx, "things", "next", 1, "ann", NOW)


def test_a_published_version_is_recalled_and_not_withdrawn(
    registry: Registry, versions: list[Registered]
) -> None:
    registry.publish(versions[0])

    with registry.tx() as tx, pytest.raises(Conflict, match=r"published.*recall it instead"):
        actions.withdraw(tx, "things", 1, "", "bo", NOW)
