"""What every store of the controller promises of federated runs and their tasks."""

from dataclasses import replace

import pytest

from controller.federated.readiness import RunBlob, StoredCheckpoint
from controller.federated.run import RunState
from controller.federated.task import ArraysReference, Phase, Task, TaskState, node_id, task_id
from controller.store.store import Store
from tests.contracts.federated_values import PHASE, READY, RUN, TASK
from tests.contracts.stored import DEVICE, Interrupted


def task(device: str, step: int = 1, run: str = "digits-r1") -> Task:
    node = node_id(device)
    return replace(
        TASK,
        id=task_id(run, step, node),
        run=run,
        step=step,
        node=node,
        device=device,
        posted_ms=TASK.posted_ms + step,
    )


def test_runs_come_newest_first(store: Store) -> None:
    newer = replace(RUN, id="faces-r1", model="faces", number=2, created_ms=RUN.created_ms + 1)
    ended = replace(
        RUN, state=RunState.FINISHED, round=5, ended_ms=7, arrays_sha256="a" * 64, candidate=4
    )
    with store.begin() as tx:
        for one in (RUN, newer, ended):
            tx.runs.put(one)

    with store.read() as tx:
        assert tx.runs.get("digits-r1") == ended
        assert tx.runs.get("digits-r2") is None
        assert list(tx.runs.all()) == [newer, ended]
        assert list(tx.runs.all("digits")) == [ended]


def test_runs_at_work_are_those_that_run_or_are_about_to_stop(store: Store) -> None:
    runs = [
        replace(RUN, id=f"digits-r{number}", created_ms=number, state=state)
        for number, state in enumerate(RunState)
    ]
    with store.begin() as tx:
        for one in reversed(runs):
            tx.runs.put(one)

    with store.read() as tx:
        states = [one.state for one in tx.runs.at_work()]
    assert states == [RunState.RUNNING, RunState.STOPPING]


def test_a_phase_is_written_down_once(store: Store) -> None:
    second = replace(PHASE, step=2, phase=Phase.EVALUATE, reasons={}, metrics={})
    with store.begin() as tx:
        assert tx.runs.add_phase("digits-r1", second)
        assert tx.runs.add_phase("digits-r1", PHASE)
        assert not tx.runs.add_phase("digits-r1", replace(PHASE, admitted=99))
        tx.runs.add_phase("digits-r2", PHASE)

    with store.read() as tx:
        assert list(tx.runs.phases("digits-r1")) == [PHASE, second]
        assert list(tx.runs.phases("digits-r3")) == []
        assert list(tx.runs.newest_phases("digits-r1", 1)) == [second]
        assert list(tx.runs.newest_phases("digits-r1", 9)) == [replace(PHASE, metrics={}), second]


def test_late_replies_are_counted_once_their_phase_is_closed(store: Store) -> None:
    with store.begin() as tx:
        tx.runs.count_late("digits-r1", 1)
        tx.runs.add_phase("digits-r1", PHASE)
        tx.runs.add_phase("digits-r1", replace(PHASE, step=2))
        tx.runs.count_late("digits-r1", 1)
        tx.runs.count_late("digits-r1", 1)

    with store.read() as tx:
        assert [one.late for one in tx.runs.phases("digits-r1")] == [2, 0]


def test_the_newest_checkpoint_is_kept(store: Store) -> None:
    first = StoredCheckpoint(1, 1, "a" * 64, "b" * 64)
    newer = StoredCheckpoint(3, 2, "c" * 64, "d" * 64)
    with store.begin() as tx:
        assert tx.runs.checkpoint("digits-r1") is None
        tx.runs.put_checkpoint("digits-r1", first)
        tx.runs.put_checkpoint("digits-r2", first)
        tx.runs.put_checkpoint("digits-r1", newer)

    with store.read() as tx:
        assert tx.runs.checkpoint("digits-r1") == newer
        assert tx.runs.checkpoint("digits-r2") == first


def test_blobs_are_named_until_they_are_forgotten(store: Store) -> None:
    one, two = RunBlob("digits-r1", "a" * 64, 1), RunBlob("digits-r2", "a" * 64, 2)
    younger = replace(one, put_ms=2**41)
    other = replace(one, sha256="b" * 64)
    with store.begin() as tx:
        for blob in (two, other, one, younger):
            tx.runs.put_blob(blob)
    with store.begin() as tx:
        assert list(tx.runs.blobs()) == [younger, other, two]
        assert list(tx.runs.blobs("digits-r2")) == [two]
        tx.runs.remove_blobs("digits-r1", {"a" * 64, "c" * 64})
        tx.runs.remove_blobs("digits-r1", ())

    with store.read() as tx:
        assert list(tx.runs.blobs()) == [other, two]


def test_tasks_come_back_by_phase_and_node(store: Store) -> None:
    tasks = [task(device, step) for step in (2, 1) for device in ("dev-1", "dev-2", "dev-3")]
    other = task("dev-1", 1, "faces-r1")
    with store.begin() as tx:
        tx.tasks.add([*tasks, other])

    with store.read() as tx:
        found = list(tx.tasks.of_run("digits-r1"))
        assert found == sorted(tasks, key=lambda one: (one.step, one.node))
        assert list(tx.tasks.of_run("digits-r1", 2)) == found[3:]
        assert tx.tasks.get(other.id) == other
        assert tx.tasks.get("nothing") is None
        assert list(tx.tasks.unsettled()) == [*found, other]
        assert list(tx.tasks.unsettled("faces-r1")) == [other]


def test_arrays_are_wanted_as_long_as_a_task_that_names_them_is_open(store: Store) -> None:
    two = ArraysReference("arrays", "b" * 64, 20)
    tasks = [task("dev-1"), task("dev-2"), replace(task("dev-3"), arrays=(*TASK.arrays, two))]
    query = replace(task("dev-4"), arrays=())
    with store.begin() as tx:
        assert set(tx.runs.wanted_arrays()) == set()
        tx.tasks.add([*tasks, query])
    with store.begin() as tx:
        assert set(tx.runs.wanted_arrays()) == {*TASK.arrays, two}
        tx.tasks.put(replace(tasks[2], state=TaskState.REPLIED))

    with store.read() as tx:
        assert list(tx.runs.wanted_arrays()) == list(TASK.arrays)


def test_a_task_that_is_posted_again_stays_as_it_is(store: Store) -> None:
    replied = replace(
        TASK, state=TaskState.REPLIED, reply_sha256="r" * 64, reply_length=9, replied_ms=5
    )
    with store.begin() as tx:
        tx.tasks.add([TASK])
        tx.tasks.put(replied)
        tx.tasks.add([TASK])

    with store.read() as tx:
        assert tx.tasks.get(TASK.id) == replied
        assert list(tx.tasks.unsettled()) == [replied]
        assert (tx.tasks.replied("digits-r1"), tx.tasks.replied("digits-r2")) == (1, 0)
    with store.begin() as tx:
        tx.tasks.put(replace(replied, state=TaskState.ADMITTED))
        assert list(tx.tasks.unsettled()) == []
        assert tx.tasks.replied("digits-r1") == 0


def test_a_device_has_its_newest_open_task(store: Store) -> None:
    older, newer, other = task("dev-1", 1), task("dev-1", 2), task("dev-2", 3)
    with store.begin() as tx:
        assert tx.tasks.newest_open("dev-1") is None
        tx.tasks.add([newer, older, other])
        assert tx.tasks.newest_open("dev-1") == newer
        tx.tasks.put(replace(newer, state=TaskState.REPLIED))
        assert tx.tasks.newest_open("dev-1") == older
        tx.tasks.put(replace(older, state=TaskState.SILENT))
        assert tx.tasks.newest_open("dev-1") is None


def test_how_many_tasks_stand_where(store: Store) -> None:
    with store.begin() as tx:
        tx.tasks.add([task("dev-1"), task("dev-2"), task("dev-1", 2)])
        tx.tasks.put(replace(task("dev-1"), state=TaskState.ADMITTED))

    with store.read() as tx:
        assert tx.tasks.counts("digits-r1", 1) == {TaskState.ADMITTED: 1, TaskState.POSTED: 1}
        assert tx.tasks.counts("digits-r1") == {TaskState.ADMITTED: 1, TaskState.POSTED: 2}
        assert tx.tasks.counts("digits-r9") == {}


def test_orders_tell_who_was_given_a_task_and_whose_was_taken_back(store: Store) -> None:
    with store.begin() as tx:
        nothing = tx.tasks.orders_since(0)
        tx.tasks.add([task("dev-1"), task("dev-2")])
        assert not tx.tasks.asked("dev-3")
    with store.read() as tx:
        posted = tx.tasks.orders_since(nothing.revision)
        assert tx.tasks.asked("dev-1")
    with store.begin() as tx:
        tx.tasks.put(replace(task("dev-1"), state=TaskState.REPLIED))
        tx.tasks.put(replace(task("dev-2"), state=TaskState.SILENT))
    with store.read() as tx:
        closed = tx.tasks.orders_since(posted.revision)
        rest = tx.tasks.orders_since(closed.revision)

    assert nothing.devices == ()
    assert posted.devices == ("dev-1", "dev-2")
    assert closed.devices == ("dev-2",)
    assert rest.devices == ()
    assert rest.revision == closed.revision > posted.revision > nothing.revision


def test_tasks_of_a_run_are_removed_some_at_a_time(store: Store) -> None:
    with store.begin() as tx:
        tx.tasks.add([task("dev-1"), task("dev-2"), task("dev-3"), task("dev-1", 1, "faces-r1")])
    with store.begin() as tx:
        assert tx.tasks.remove("digits-r1", 2) == 2
        assert tx.tasks.remove("digits-r1", 2) == 1
        assert tx.tasks.remove("digits-r1", 2) == 0

    with store.read() as tx:
        assert [one.run for one in tx.tasks.unsettled()] == ["faces-r1"]


def test_a_device_says_everything_of_its_readiness_at_once(store: Store) -> None:
    faces = replace(READY, model="faces", eligible=False, reason="battery", examples=2**40)
    other = replace(READY, device="dev-2", eligible=False, reason="few-examples")
    with store.begin() as tx:
        tx.tasks.replace_readiness("dev-2", [other])
        tx.tasks.replace_readiness("dev-1", [READY, faces])
    with store.read() as tx:
        assert list(tx.tasks.readiness("digits")) == [READY, other]
        assert list(tx.tasks.readiness("faces")) == [faces]
    with store.begin() as tx:
        tx.tasks.replace_readiness("dev-1", [])

    with store.read() as tx:
        assert list(tx.tasks.readiness("digits")) == [other]
        assert list(tx.tasks.readiness("faces")) == []


def test_what_has_changed_of_devices_and_of_what_they_say_of_a_model_is_told(
    store: Store,
) -> None:
    faces = replace(READY, device="dev-2", model="faces")
    with store.begin() as tx:
        for name in ("dev-1", "dev-2", "dev-3"):
            tx.devices.put(replace(DEVICE, id=name))
        tx.tasks.replace_readiness("dev-1", [READY])
        tx.tasks.replace_readiness("dev-2", [faces])
    with store.read() as tx:
        first = tx.tasks.standing("digits", 0)
    assert set(first.ids) == {"dev-1", "dev-2", "dev-3"}
    assert ([one.id for one in first.devices], list(first.told)) == (["dev-1"], [READY])

    with store.begin() as tx:
        tx.devices.touch("dev-3", 9.0, connected=True)
        tx.tasks.replace_readiness("dev-2", [faces, replace(READY, device="dev-2")])
    with store.read() as tx:
        second = tx.tasks.standing("digits", first.revision)
        nothing = tx.tasks.standing("digits", second.revision)
    assert set(second.ids) == {"dev-2", "dev-3"}
    assert [one.id for one in second.devices] == ["dev-2"]
    assert list(second.told) == [replace(READY, device="dev-2")]
    assert (list(nothing.ids), list(nothing.told)) == ([], [])


def test_devices_are_busy_that_have_an_open_task_of_another_run(store: Store) -> None:
    with store.begin() as tx:
        tx.tasks.add([task("dev-1"), task("dev-2"), task("dev-2", run="faces-r1")])
        tx.tasks.add([replace(task("dev-3", run="faces-r1"), state=TaskState.REPLIED)])
    with store.read() as tx:
        assert set(tx.tasks.busy("digits-r1")) == {"dev-2"}
        assert set(tx.tasks.busy("faces-r1")) == {"dev-1", "dev-2"}
        assert set(tx.tasks.busy("none")) == {"dev-1", "dev-2"}


def write_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.runs.put(replace(RUN, state=RunState.FAILED))
        tx.runs.add_phase("digits-r1", PHASE)
        tx.runs.put_checkpoint("digits-r1", StoredCheckpoint(1, 1, "a", "b"))
        tx.runs.put_blob(RunBlob("digits-r1", "a", 1))
        tx.tasks.put(replace(TASK, state=TaskState.REPLIED))
        tx.tasks.replace_readiness("dev-1", [READY])
        raise Interrupted


def test_what_a_failed_transaction_has_written_is_gone(store: Store) -> None:
    with store.begin() as tx:
        tx.runs.put(RUN)
        tx.tasks.add([TASK])

    with pytest.raises(Interrupted):
        write_and_fail(store)

    with store.read() as tx:
        assert tx.runs.get("digits-r1") == RUN
        assert list(tx.runs.phases("digits-r1")) == []
        assert tx.runs.checkpoint("digits-r1") is None
        assert list(tx.runs.blobs()) == []
        assert tx.tasks.get(TASK.id) == TASK
        assert list(tx.tasks.readiness("digits")) == []
