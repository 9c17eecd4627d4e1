"""What a run has brought becomes a version like any other, with all that its approvers need."""

import numpy as np
import pytest

from agent.inference.golden import compare, decode
from agent.monitor.finding import Verdict
from agent.monitor.reference import read_reference
from agent.monitor.verdict import judge
from agent.runtimes.onnx import OnnxRuntime
from controller.candidate.actions import Means, here, register_candidate
from controller.candidate.errors import NoCandidate
from controller.candidate.gates import candidate_gates
from controller.candidate.model import parameters_of
from controller.monitor.estimator import read
from controller.registry.actions import card_of, withdraw
from controller.registry.card import markdown, parent_metrics
from controller.registry.gates import UnsafeAcceptAnything
from controller.registry.registration import Registered
from controller.registry.training_text import objections, sentences, spec_of
from controller.registry.version import State
from protos.documents import sha256
from protos.manifest import Role
from protos.model_step import applied
from protos.train_step import renamed
from tests.controller.candidate.runs import (
    DEVICES,
    SHIFT,
    TURNED,
    Fleet,
    answered,
    counted,
    evaluation,
    trained,
    turned,
)
from tests.controller.registry.building import WEIGHTS


@pytest.fixture(scope="module")
def told() -> Fleet:
    """A fleet whose devices have told of the turned world; tests register with it, or look."""
    fleet = Fleet()
    for device in DEVICES:
        fleet.tell(device)
    return fleet


@pytest.fixture(scope="module")
def candidate(told: Fleet) -> Registered:
    return told.candidate(trained())


def test_it_is_the_models_next_version_and_waits_for_its_approvers(candidate: Registered) -> None:
    manifest = candidate.manifest

    assert (manifest.reference, candidate.version.state) == ("things/2", State.VALIDATED)
    assert manifest.release_counter == 2
    assert candidate.version.registered_by == "ann"


def test_its_lineage_names_parent_run_and_round(told: Fleet, candidate: Registered) -> None:
    lineage = candidate.manifest.lineage

    assert (lineage.parent, lineage.training_run, lineage.round) == (1, "run-7", 3)
    assert lineage.parent_model == told.parent.manifest.files[Role.MODEL].sha256
    assert lineage.parent_train_step == told.parent.manifest.files[Role.TRAIN_STEP].sha256
    assert lineage.data_profile == candidate.manifest.files[Role.REFERENCE].sha256
    assert lineage.git_commit == "c0ffee"


def test_its_model_is_what_the_step_makes_of_the_parents(
    told: Fleet, candidate: Registered
) -> None:
    parent, model = told.file(Role.MODEL), told.file(Role.MODEL, candidate)

    assert applied(parent, told.file(Role.MODEL_STEP, candidate), len(parent)) == model
    made = parameters_of(model, {"w": (4, 3)})["w"]
    assert made == pytest.approx(TURNED, abs=float(np.max(np.abs(TURNED - WEIGHTS))) / 127)


def test_its_train_step_is_the_parents_for_the_new_model(
    told: Fleet, candidate: Registered
) -> None:
    graph = told.file(Role.TRAIN_STEP, candidate)
    spec, before = spec_of(graph), spec_of(told.file(Role.TRAIN_STEP))

    assert list(objections(candidate.manifest, graph)) == []
    assert spec.model_sha256 == candidate.manifest.files[Role.MODEL].sha256
    assert graph == renamed(told.file(Role.TRAIN_STEP), before.model_sha256, spec.model_sha256)
    assert spec.parameters == before.parameters
    assert (spec.loss, spec.optimizer) == (before.loss, before.optimizer)


def test_its_golden_vectors_are_what_it_answers_itself(told: Fleet, candidate: Registered) -> None:
    vectors = decode(told.file(Role.GOLDEN, candidate))
    model = OnnxRuntime().load(told.file(Role.MODEL, candidate), candidate.manifest)
    names = list(vectors.outputs)

    given = dict(zip(names, model.run(vectors.inputs, names), strict=True))
    model.close()

    assert compare(vectors, given).objections == ()
    labels = answered(vectors.inputs["x"], TURNED)["label"]
    assert np.array_equal(vectors.outputs["label"], labels)


def test_metrics_are_those_of_what_devices_hold_out_beside_the_parents_on_the_same(
    told: Fleet, candidate: Registered
) -> None:
    with told.registry.tx() as tx:
        document = card_of(tx, told.registry.blobs, "things/2")
    page = markdown(document)

    assert candidate.manifest.metrics["accuracy"] == pytest.approx(0.95, abs=0.02)
    assert parent_metrics(document)["accuracy"] < 0.3
    assert "* examples that 4 devices hold out: 600 rows" in page
    assert "* federated:devices: 4" in page
    assert "* federated:rounds: 3" in page
    golden = decode(told.file(Role.GOLDEN))
    changed = np.count_nonzero(
        golden.outputs["label"] != answered(golden.inputs["x"], TURNED)["label"]
    )
    assert changed > 0
    assert f"* federated:golden_answers: {len(golden.inputs['x'])}" in page
    assert f"* federated:golden_answers_changed: {changed}" in page
    assert "* federated:golden_of: things/1" in page
    assert f"* federated:parent_profile: {sha256(told.profile)}" in page
    assert "Tells things apart." in page
    assert "* three kinds" in page
    (said, may) = sentences(candidate.manifest, told.file(Role.TRAIN_STEP, candidate))
    assert said == "trained on devices from things/1: run run-7, 3 rounds"
    assert may.startswith("devices may train 12 numbers")


def test_its_profile_takes_the_world_as_it_is_now_for_healthy(
    told: Fleet, candidate: Registered
) -> None:
    profile = told.file(Role.REFERENCE, candidate)
    now, _ = turned(600, seed=99)
    parents = read_reference(told.profile)

    before = judge(parents, counted(told.profile, now, WEIGHTS))
    after = judge(read_reference(profile), counted(profile, now, TURNED))

    assert before.verdict is not Verdict.OK
    assert after.verdict is Verdict.OK


def test_its_profile_sees_when_the_world_turns_back(told: Fleet, candidate: Registered) -> None:
    profile = told.file(Role.REFERENCE, candidate)
    now, _ = turned(600, seed=98)

    judgement = judge(read_reference(profile), counted(profile, SHIFT - now, TURNED))

    assert judgement.verdict is not Verdict.OK


def test_cells_of_the_inputs_are_the_parents_and_all_rows_of_the_fleet_are_in_them(
    told: Fleet, candidate: Registered
) -> None:
    parent, now = read_reference(told.profile), read_reference(told.file(Role.REFERENCE, candidate))

    assert now.rows == 4 * 400
    for old, new in zip(parent.series[:4], now.series[:4], strict=True):
        assert (old.name, old.edges) == (new.name, new.edges)
    assert [one.name for one in now.series] == [one.name for one in parent.series]
    assert now.policy == parent.policy


def test_accuracy_is_estimated_by_how_sure_it_was_on_what_devices_hold_out(
    told: Fleet, candidate: Registered
) -> None:
    with told.registry.tx() as tx:
        estimator = tx.totals.estimator("things", 2)
    assert estimator is not None
    profile = told.file(Role.REFERENCE, candidate)
    x, _ = turned(600, seed=97)
    counts = counted(profile, x, TURNED)
    sums = np.column_stack([counts.sums.astype(np.float64), counts.least, counts.greatest])

    reading = read(estimator, counts.cells.ravel().tolist(), sums.ravel().tolist())

    assert estimator.profile_sha256 == sha256(profile)
    assert reading is not None
    assert reading.right is not None
    assert reading.right / reading.answers == pytest.approx(0.95, abs=0.03)


def test_windows_from_before_the_run_count_where_later_ones_are_too_few(
    told: Fleet, candidate: Registered
) -> None:
    later = told.candidate(trained(run="run-6", parameters={"w": 4 * TURNED}), since_ms=10**15)

    profile = read_reference(told.file(Role.REFERENCE, later))
    assert profile.rows == read_reference(told.file(Role.REFERENCE, candidate)).rows
    with told.registry.tx() as tx:
        withdraw(tx, "things", later.version.version, "", "ann", 1.0)


def test_the_same_run_registers_once(told: Fleet, candidate: Registered) -> None:
    assert told.candidate(trained()).manifest == candidate.manifest
    with told.registry.tx() as tx:
        versions = tx.registry.versions("things")
    assert [one.version for one in versions if one.state is not State.REJECTED] == [1, 2]


def test_a_broken_devices_data_are_in_no_profile() -> None:
    fleet = Fleet()
    for device in DEVICES:
        fleet.tell(device)
    stuck = np.full((400, 4), 9, np.float32)
    fleet.told("stuck", counted(fleet.profile, stuck, WEIGHTS))
    made = fleet.candidate(trained())

    assert read_reference(fleet.file(Role.REFERENCE, made)).rows == 4 * 400


def test_without_windows_the_parents_profile_is_kept_and_a_note_says_so() -> None:
    fleet = Fleet()

    made = fleet.candidate(trained())

    assert made.manifest.files[Role.REFERENCE] == fleet.parent.manifest.files[Role.REFERENCE]
    assert any("the reference profile is the parent's" in note for note in made.notes)
    with fleet.registry.tx() as tx:
        assert tx.totals.estimator("things", 2) is None
    refused_without_a_better_one(fleet)


def refused_without_a_better_one(fleet: Fleet) -> None:
    """Gates that fail, in the same registry: each run is a version of its own."""
    worse = fleet.candidate(
        trained(run="run-8", before=evaluation(TURNED), after=evaluation(WEIGHTS))
    )
    assert worse.version.state is State.REJECTED
    assert any("accuracy is" in one and "things/1 has" in one for one in worse.version.reasons)

    few = fleet.candidate(trained(run="run-9", after=evaluation(TURNED, rows=40)))
    assert few.version.reasons == (
        "devices have evaluated it on 40 examples that they hold out, needs 100",
    )

    strict = candidate_gates({"accuracy": 0.99})
    below = fleet.candidate(trained(run="run-10", parameters={"w": 2 * TURNED}), gates=strict)
    assert any("needs at least 0.99" in one for one in below.version.reasons)

    lossy = fleet.candidate(
        trained(run="run-12", parameters={"w": 3 * TURNED}), gates=candidate_gates({"loss": 0.4})
    )
    assert lossy.version.reasons == ("loss is 0.5, needs at most 0.4",)

    accepted = fleet.candidate(
        trained(run="run-11", after=evaluation(WEIGHTS)), gates=UnsafeAcceptAnything()
    )
    assert accepted.version.state is State.VALIDATED


def test_parameters_that_are_not_the_parents_make_no_candidate(told: Fleet) -> None:
    for parameters, says in (
        ({"v": TURNED}, "not those of the train step: 'v'"),
        ({"w": TURNED[:3]}, "not those of the train step: 'w'"),
        ({"w": np.full_like(TURNED, np.nan)}, "not finite"),
    ):
        with pytest.raises(NoCandidate, match=says):
            told.candidate(trained(run="run-99", parameters=parameters))


def test_a_candidate_of_a_candidate_has_as_many_golden_rows_as_were_once_given() -> None:
    fleet = Fleet()
    first = fleet.candidate(trained(parameters={"w": 0.02 * TURNED}))  # which is sure of little
    fleet.registry.publish(first)
    registry = fleet.registry
    means = Means(registry.store, registry.blobs, here(registry.runtime), 3)
    second = register_candidate(means, "things/2", trained(run="run-8"), "ann", 2.0)

    rows = [len(decode(fleet.file(Role.GOLDEN, one)).inputs["x"]) for one in (first, second)]
    page = markdown(fleet.file(Role.CARD, second))

    assert second.manifest.lineage.parent == 2
    assert rows[1] > rows[0]
    assert "* federated:golden_of: things/1" in page
