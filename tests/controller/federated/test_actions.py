"""Runs are begun, proposed, ended and resumed; what can't be is refused in words."""

from dataclasses import replace

import msgspec
import pytest

from controller.errors import Conflict, InvalidInput, NotFound
from controller.federated import actions
from controller.federated.actions import Wish
from controller.federated.errors import NotTrainableHere
from controller.federated.run import Run, RunState
from controller.federated.run_file import BadRunFile
from controller.federated.settling import awaits_version
from controller.federated.task import TaskState
from controller.fleet.device import DeviceStatus
from controller.incident.incident import Incident, IncidentState
from controller.registry.version import Model, State, Version
from protos.manifest import Role
from simulations.memory_store import MemoryStore
from tests.contracts.federated_values import PHASE, TASK
from tests.contracts.stored import DEVICE
from tests.controller.rollout.world import FILE, START, manifest, registered

SMALLEST = '[run]\nmodel = "digits/1"\nselector = "site=berlin"\nrounds = 7\n'


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    with made.begin() as tx:
        tx.devices.put(DEVICE)
        for model in ("digits", "faces"):
            tx.registry.put_model(Model(model, START, 1, {}, ""))
        for version in (registered("digits", 1), registered("faces", 1)):
            tx.registry.put_version(trainable(version))
        tx.registry.put_version(registered("digits", 2))
        tx.registry.put_version(replace(trainable(registered("digits", 3)), state=State.VALIDATED))
    return made


def trainable(version: Version) -> Version:
    told = manifest(version.model, version.version)
    with_step = msgspec.structs.replace(told, files={**told.files, Role.TRAIN_STEP: FILE})
    return replace(version, manifest=with_step.encode())


def begun(store: MemoryStore, file: str = SMALLEST, now: float = START, **more: str) -> Run:
    with store.begin() as tx:
        return actions.start(tx, Wish(file, "ada", "r.toml", **more), now)  # type: ignore[arg-type]


def test_a_run_that_is_started_is_at_work_and_audited(store: MemoryStore) -> None:
    run = begun(store)

    assert (run.id, run.model, run.version, run.rounds) == ("digits-r1", "digits", 1, 7)
    assert (run.state, run.started_ms, run.file) == (RunState.RUNNING, START * 1000, SMALLEST)
    assert 0 < run.number < 2**64
    with store.read() as tx:
        assert list(tx.runs.at_work()) == [run]
        record = tx.audit.last()
    assert record is not None
    entry = record.entry
    assert (entry.actor, entry.action, entry.subject) == ("ada", "federated.start", "digits-r1")


INCIDENT = Incident(
    id="digits-i1", model="digits", version=1, state=IncidentState.OPEN, opened_ms=1
)


def test_a_run_that_somebody_starts_is_the_run_of_the_open_incident(store: MemoryStore) -> None:
    with store.begin() as tx:
        tx.incidents.put(INCIDENT)
        proposed = actions.propose(tx, Wish(SMALLEST, "muster", incident="digits-i1"), START)
        tx.incidents.put(replace(INCIDENT, run=proposed.id))

    own = begun(store)

    with store.begin() as tx:
        assert (own.incident, tx.incidents.get("digits-i1")) == (
            "digits-i1",
            replace(INCIDENT, run=own.id),
        )
        actions.stop(tx, own.id, "ada", START)
        actions.ended(tx, own.id, START)
        actions.start_proposed(tx, proposed.id, "ada", START)
        assert tx.incidents.get("digits-i1") == replace(INCIDENT, run=proposed.id)


@pytest.mark.parametrize("changes", [{"version": 2}, {"state": IncidentState.CLOSED}])
def test_a_run_belongs_to_no_incident_of_something_else(
    store: MemoryStore, changes: dict[str, object]
) -> None:
    with store.begin() as tx:
        tx.incidents.put(replace(INCIDENT, **changes))  # type: ignore[arg-type]

    assert begun(store).incident == ""


@pytest.mark.parametrize(
    ("state", "incident"), [(State.PUBLISHED, ""), (State.REJECTED, "digits-i1")]
)
def test_an_incident_with_a_candidate_that_stands_has_had_its_run(
    store: MemoryStore, state: State, incident: str
) -> None:
    before = begun(store)
    with store.begin() as tx:
        tx.registry.put_version(replace(registered("digits", 2), state=state))
        tx.runs.put(replace(before, state=RunState.FINISHED, candidate=2, arrays_sha256="a"))
        tx.incidents.put(replace(INCIDENT, run=before.id))

    assert begun(store, now=START + 1).incident == incident


def test_an_incident_whose_version_is_being_made_has_had_its_run(store: MemoryStore) -> None:
    before = begun(store)
    with store.begin() as tx:
        tx.runs.put(replace(before, state=RunState.FINISHED, arrays_sha256="a"))
        tx.incidents.put(replace(INCIDENT, run=before.id))

    assert begun(store, now=START + 1).incident == ""


def test_one_run_of_a_model_at_a_time(store: MemoryStore) -> None:
    begun(store)

    with pytest.raises(Conflict, match="digits-r1 is running: one run of a model at a time"):
        begun(store)
    assert begun(store, '[run]\nmodel = "faces/1"').id == "faces-r1"


@pytest.mark.parametrize(
    ("file", "error", "said"),
    [
        ("[run]\nrounds = 1", BadRunFile, r"r\.toml:1: \[run\] model: is missing"),
        ('[run]\nmodel = "digits/9"', NotFound, "digits/9"),
        ('[run]\nmodel = "digits@best"', NotFound, "best"),
        ('[run]\nmodel = "digits/2"', NotTrainableHere, "digits/2 has no train step"),
        ('[run]\nmodel = "digits/3"', Conflict, "digits/3 is validated"),
        ('[run]\nmodel = "digits/1"\nselector = "site=oslo"', Conflict, "no active device"),
    ],
)
def test_a_run_that_can_not_be_is_refused(
    store: MemoryStore, file: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        begun(store, file)
    with store.read() as tx:
        assert list(tx.runs.all()) == []


def test_devices_that_were_revoked_do_not_count(store: MemoryStore) -> None:
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, status=DeviceStatus.REVOKED))

    with pytest.raises(Conflict, match="no active device"):
        begun(store)


@pytest.mark.parametrize("app", ["my.module", "my/module:app", ":app", "a:b:c", "-m os:x"])
def test_an_app_that_can_be_none_is_refused(store: MemoryStore, app: str) -> None:
    with pytest.raises(InvalidInput, match="MODULE:NAME"):
        begun(store, app=app)
    assert begun(store, app="my.module:app").app == "my.module:app"


def test_a_proposal_waits_for_somebody(store: MemoryStore) -> None:
    with store.begin() as tx:
        wish = Wish(SMALLEST, "muster", reasons=("drift",), incident="digits-i1")
        first, second = (actions.propose(tx, wish, START) for _ in range(2))
    assert (first.state, first.reasons, first.incident) == (
        RunState.PROPOSED,
        ("drift",),
        "digits-i1",
    )

    with store.begin() as tx:
        going = actions.start_proposed(tx, first.id, "ada", START + 5)
        with pytest.raises(Conflict, match="one run of a model"):
            actions.start_proposed(tx, second.id, "ada", START + 6)
        gone = actions.dismiss(tx, second.id, "ada", START + 6)
    assert (going.state, going.started_ms) == (RunState.RUNNING, (START + 5) * 1000)
    assert gone.state is RunState.DISMISSED
    with store.begin() as tx, pytest.raises(Conflict, match="dismissed"):
        actions.start_proposed(tx, second.id, "ada", START)


def test_a_run_is_stopped_and_resumed(store: MemoryStore) -> None:
    run = begun(store)
    with store.begin() as tx:
        tx.tasks.add([TASK])
        assert actions.stop(tx, run.id, "ada", START + 1).state is RunState.STOPPING
        with pytest.raises(Conflict, match="stopping"):
            actions.resume(tx, run.id, "ada", START + 1)
        over = actions.ended(tx, run.id, START + 2)
        task = tx.tasks.get(TASK.id)
    assert task is not None
    assert (over.state, over.ended_ms) == (RunState.STOPPED, (START + 2) * 1000)
    assert task.state is TaskState.SILENT
    with store.begin() as tx:
        assert actions.resume(tx, run.id, "ada", START + 3) == run


def test_of_a_finished_run_the_version_that_could_not_be_made_is_tried_again(
    store: MemoryStore,
) -> None:
    run = replace(begun(store), state=RunState.FINISHED, arrays_sha256="a" * 64)
    lost = replace(run, error="the process that made it ended with SIGKILL")
    with store.begin() as tx:
        tx.runs.put(lost)
        assert actions.resume(tx, run.id, "ada", START + 1) == run
        assert awaits_version(run)
        for whole in (run, replace(lost, candidate=4)):
            tx.runs.put(whole)
            with pytest.raises(Conflict, match="finished"):
                actions.resume(tx, run.id, "ada", START + 2)


def test_a_run_whose_coordinator_can_not_be_kept_going_has_failed(store: MemoryStore) -> None:
    run = begun(store)
    with store.begin() as tx:
        over = actions.ended(tx, run.id, START + 1, "it has died 9 times")
    assert (over.state, over.error) == (RunState.FAILED, "it has died 9 times")
    other = begun(store)
    with store.begin() as tx, pytest.raises(Conflict, match=other.id):
        actions.resume(tx, run.id, "ada", START + 2)


def test_an_account_has_what_is_closed_and_what_is_open(store: MemoryStore) -> None:
    run = begun(store)
    with store.begin() as tx:
        assert actions.account_of(tx, run.id).open_step == 0
        tx.tasks.add([TASK, replace(TASK, id="second", step=2, state=TaskState.REPLIED)])
        tx.tasks.put(replace(TASK, state=TaskState.ADMITTED))
        tx.runs.add_phase(run.id, PHASE)
        account = actions.account_of(tx, run.id)
        with pytest.raises(NotFound, match="digits-r9"):
            actions.account_of(tx, "digits-r9")

    assert (account.run, account.phases) == (run, [PHASE])
    assert (account.open_step, account.open) == (2, {TaskState.REPLIED: 1})
