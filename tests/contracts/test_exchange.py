"""What every exchange between a coordinator and the fleet promises."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import NotFound
from controller.federated.errors import ReplyWithdrawn
from controller.federated.exchange import Checkpoint, Exchange, Outcome, PhaseRecord
from controller.federated.run import RunState
from controller.federated.task import ArraysReference, Task, TaskState, node_id, task_id
from protos.flower import message_pb2
from tests.contracts.exchanges import APP_RUN, DEVICES, FLEETS, NODES, Fleet
from tests.contracts.federated_values import PHASE, RUN, TASK

ADMITTED = TaskState.ADMITTED.value
SILENT = TaskState.SILENT.value


@pytest.fixture(params=list(FLEETS))
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    made = FLEETS[request.param](RUN, tmp_path)
    yield made
    made.close()


def arrays_of_step(step: int) -> bytes:
    return message_pb2.ArrayRecord(
        items=[message_pb2.ArrayRecord.Item(key=f"step-{step}")]
    ).SerializeToString()


def tasks_of(exchange: Exchange, step: int = 1) -> list[Task]:
    digest = exchange.put_arrays(arrays_of_step(step))
    now_ms = exchange.now_ms()
    return [
        replace(
            TASK,
            id=task_id(RUN.id, step, node_id(device)),
            step=step,
            node=node_id(device),
            device=device,
            message=b"",
            arrays=(ArraysReference("arrays", digest, 17),),
            posted_ms=now_ms,
            deadline_ms=now_ms + 60_000,
        )
        for device in DEVICES
    ]


def record(step: int = 1, **changes: object) -> PhaseRecord:
    return replace(PHASE, step=step, **changes)  # type: ignore[arg-type]


def states(exchange: Exchange, step: int = 1) -> dict[str, TaskState]:
    return {task.device: task.state for task in exchange.tasks(step)}


def decided(tasks: list[Task], state: str = ADMITTED) -> list[Outcome]:
    return [Outcome(task.id, state) for task in tasks]


def test_nodes_come_by_id_with_what_they_said(fleet: Fleet) -> None:
    nodes = list(fleet.exchange().nodes())

    assert [node.id for node in nodes] == NODES
    by_name = {node.device: node for node in nodes}
    assert all(by_name[name].eligible and by_name[name].connected for name in DEVICES)
    assert by_name["dev-1"].examples == 100
    away = by_name["dev-4"]
    assert (away.eligible, away.reason, away.connected) == (False, "battery", False)


def test_arrays_are_stored_by_digest(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    digest = exchange.put_arrays(b"arrays")

    assert exchange.put_arrays(b"arrays") == digest
    assert fleet.exchange().arrays(digest) == b"arrays"
    with pytest.raises(NotFound):
        exchange.arrays("0" * 64)


def test_tasks_are_posted_once(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    fleet.reply("dev-1", tasks[0].id, b"one")

    again = fleet.exchange()  # it was killed, and does what it did
    again.post([replace(task, posted_ms=task.posted_ms + 7) for task in tasks])

    found = list(again.tasks(1))
    assert [task.node for task in found] == sorted(node_id(name) for name in DEVICES)
    assert {task.posted_ms for task in found} == {tasks[0].posted_ms}
    assert states(again)["dev-1"] is TaskState.REPLIED
    assert list(again.tasks(2)) == []


def test_a_reply_is_there_as_it_was_sent(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    with pytest.raises(NotFound):
        exchange.reply(tasks[0].id)
    fleet.reply("dev-1", tasks[0].id, b"reply")
    fleet.reply("dev-1", tasks[0].id, b"another")

    (task,) = [one for one in exchange.tasks(1) if one.device == "dev-1"]
    assert exchange.reply(task.id) == b"reply"
    assert (task.reply_length, task.state) == (5, TaskState.REPLIED)
    assert task.replied_ms >= task.posted_ms


def test_waiting_ends_when_a_reply_came_since_the_tasks_were_read(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    exchange.tasks(1)
    fleet.reply("dev-2", tasks[1].id, b"reply")

    exchange.wait(600)

    assert states(exchange)["dev-2"] is TaskState.REPLIED


def test_waiting_ends_when_the_run_is_to_stop_and_when_the_time_is_over(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    exchange.tasks(1)
    fleet.stop()

    exchange.wait(600)
    assert exchange.run.state is RunState.STOPPING
    before = exchange.now_ms()
    exchange.wait(0.05)
    assert exchange.now_ms() >= before + 50


def test_a_phase_is_closed_all_at_once_and_once(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    fleet.reply("dev-1", tasks[0].id, b"one")
    fleet.reply("dev-2", tasks[1].id, b"two")
    digest = exchange.put_arrays(b"next")
    outcomes = [
        Outcome(tasks[0].id, ADMITTED),
        Outcome(tasks[1].id, TaskState.REFUSED.value, "norm", "too far"),
        Outcome(tasks[2].id, SILENT),
    ]
    exchange.close(outcomes, record(), Checkpoint(1, 1, digest, b"state"))
    exchange.close(decided(tasks, SILENT), record(admitted=9), Checkpoint(2, 2, digest, b"x"))

    after = fleet.exchange()
    refused = next(task for task in after.tasks(1) if task.device == "dev-2")
    assert (refused.code, refused.reason) == ("norm", "too far")
    assert [states(after)[name] for name in DEVICES] == [
        TaskState.ADMITTED,
        TaskState.REFUSED,
        TaskState.SILENT,
    ]
    assert list(after.phases()) == [record()]
    assert after.checkpoint() == Checkpoint(1, 1, digest, b"state")
    assert after.run.round == 1


def test_a_phase_without_a_checkpoint_leaves_the_one_before(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    assert exchange.checkpoint() is None
    digest = exchange.put_arrays(b"next")
    exchange.close([], record(), Checkpoint(1, 1, digest, b"state"))
    exchange.close([], record(2), None)

    assert exchange.checkpoint() == Checkpoint(1, 1, digest, b"state")
    assert [one.step for one in exchange.phases()] == [1, 2]


def test_a_reply_to_a_closed_phase_is_late(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    exchange.close(decided(tasks, SILENT), record(), None)
    fleet.reply("dev-3", tasks[2].id, b"late")
    fleet.reply("dev-3", tasks[2].id, b"late")

    assert states(exchange)["dev-3"] is TaskState.LATE
    assert [one.late for one in exchange.phases()] == [1]
    with pytest.raises(NotFound):
        exchange.reply(tasks[2].id)


def test_a_reply_between_the_decision_and_its_being_written_is_late(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    fleet.reply("dev-3", tasks[2].id, b"just now")
    exchange.close(decided(tasks, SILENT), record(), None)

    assert states(exchange)["dev-3"] is TaskState.LATE
    assert [one.late for one in exchange.phases()] == [1]


def test_nothing_is_closed_with_a_reply_of_a_device_that_was_revoked_meanwhile(
    fleet: Fleet,
) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    fleet.reply("dev-1", tasks[0].id, b"one")
    fleet.reply("dev-2", tasks[1].id, b"two")
    fleet.revoke("dev-2")
    made = Checkpoint(1, 1, exchange.put_arrays(b"next"), b"state")
    with pytest.raises(ReplyWithdrawn):
        exchange.close(decided(tasks[:2]), record(), made)

    again = fleet.exchange()
    assert (list(again.phases()), again.checkpoint(), again.run.round) == ([], None, RUN.round)
    before = {"dev-1": "replied", "dev-2": "refused", "dev-3": "posted"}
    assert states(again) == before
    assert again.reply(tasks[0].id) == b"one"

    again.close(decided(tasks[:1]), record(), made)
    again.close(decided(tasks[:2]), record(), made)  # it is closed already, and stays so

    assert states(again) == {**before, "dev-1": "admitted"}
    assert again.checkpoint() == made


def test_replies_are_forgotten_with_their_phase(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    fleet.reply("dev-1", tasks[0].id, b"one")
    exchange.close(decided(tasks[:1]), record(), None)

    with pytest.raises(NotFound):
        exchange.reply(tasks[0].id)


@pytest.mark.parametrize("kind", list(FLEETS))
def test_replies_to_a_users_own_app_are_its_journal(kind: str, tmp_path: Path) -> None:
    fleet = FLEETS[kind](APP_RUN, tmp_path)
    exchange = fleet.exchange()
    tasks = tasks_of(exchange)
    exchange.post(tasks)
    fleet.reply("dev-1", tasks[0].id, b"one")
    exchange.close(decided(tasks[:1]), record(), None)

    again = fleet.exchange()
    assert again.reply(tasks[0].id) == b"one"
    assert again.arrays(tasks[0].arrays[0].sha256) == arrays_of_step(1)
    fleet.close()


def test_a_run_that_is_finished_stays_so(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    digest = exchange.put_arrays(b"final")
    exchange.finish(digest)
    exchange.finish(digest)

    assert exchange.run.state is RunState.FINISHED
    assert fleet.exchange().arrays(digest) == b"final"


def test_a_run_that_fails_says_why(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    exchange.fail("too few devices")

    assert exchange.run.state is RunState.FAILED
    assert exchange.run.error == "too few devices"


def test_a_run_that_fails_while_it_is_stopped_is_stopped(fleet: Fleet) -> None:
    exchange = fleet.exchange()
    fleet.stop()
    exchange.fail("given up")

    assert exchange.run.state is RunState.STOPPED
