"""Rounds: who is asked, when they end, what is told of them, and when a run gives up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.candidate.grid import rounded
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.errors import NoAggregate, Stopped, TooFewDevices
from controller.federated.coordinator.flower import strategy_of
from controller.federated.coordinator.hearing import heard
from controller.federated.coordinator.request import arrays_of
from controller.federated.evaluation_told import evaluation_of
from controller.federated.plan import Plan
from controller.federated.run import RunEvent, RunState, step
from controller.federated.settling import disowned
from controller.federated.task import Phase, Task, TaskState
from protos.flower import message_pb2
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.driving import BUFFERED, WHOLE, drive
from tests.controller.federated.coordinator.pretend import (
    Learner,
    declining,
    devices,
    initial,
    ledger,
    plan,
    silent,
)

STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedProx": {},
    "FedAvgM": {"server_momentum": 0.7},
    "FedAdam": {"eta": 0.1},
    "FedYogi": {"eta": 0.1},
    "FedAdagrad": {"eta": 0.1},
    "FedTrimmedAvg": {"beta": 0.2},
    "FedMedian": {},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 4},
}


@pytest.mark.parametrize("name", [*STRATEGIES, "FedBuff"])
def test_every_strategy_learns(name: str) -> None:
    how = plan(
        run={"rounds": 8},
        strategy={"name": name, **STRATEGIES[name]} if name in STRATEGIES else {},
        round={} if name in STRATEGIES else BUFFERED,
        training={"proximal": 0.01 if name == "FedProx" else 0.0},
        update={"encoding": "int8"},
        evaluation=WHOLE,
    )

    found = drive(ledger(devices(7)), how)

    before, after = (one.metrics for one in found.phases if one.phase is Phase.EVALUATE)
    assert before["accuracy"] < 0.6
    assert after["accuracy"] > 0.97
    assert after["loss"] < 0.5 * before["loss"]
    final = arrays_of(found.blobs[found.final_sha256])
    assert {array.dtype for array in final.values()} == {np.dtype(np.float32)}


def test_bulyan_is_flowers_own() -> None:
    how = plan(run={"rounds": 1}, strategy={"name": "Bulyan", "num_malicious_nodes": 1})

    assert drive(ledger(devices(7)), how).run.state is RunState.FINISHED


def test_evaluations_come_before_after_and_every_so_many_rounds() -> None:
    how = plan(run={"rounds": 5}, evaluation={**WHOLE, "every": 2})

    found = drive(ledger(devices(3)), how)

    told = [(one.phase.value, one.round) for one in found.phases]
    assert told == [
        *(("evaluate", 0), ("train", 1), ("train", 2), ("evaluate", 2), ("train", 3)),
        *(("train", 4), ("evaluate", 4), ("train", 5), ("evaluate", 5)),
    ]
    assert found.phases[0].metrics["examples"] == 105


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
@pytest.mark.parametrize("registered", [True, False])
def test_the_evaluation_is_what_all_devices_come_to_together(registered: bool, mode: str) -> None:
    several = devices(3)
    how = plan(
        run={"rounds": 1},
        round={"mode": mode},
        evaluation=WHOLE,
        candidate={"registered": registered},
    )
    found = drive(ledger(several), how)

    final = arrays_of(found.blobs[found.final_sha256])
    if registered:  # of what is shipped, then
        final = dict(rounded(arrays_of(initial()), final))
    counts = [one.answer.counts(final) for one in several if isinstance(one.answer, Learner)]
    told = evaluation_of(found.phases[-1].metrics)
    assert told.examples == sum(one.examples for one in counts) == 105
    assert told.loss == pytest.approx(heard(counts, 10_000).loss)
    assert told.confusion == heard(counts, 10_000).confusion


def test_over_selection_and_quorum_do_not_wait_for_the_slowest() -> None:
    several = devices(10)
    several[3].takes_ms = several[7].takes_ms = 60_000
    how = plan(
        run={"rounds": 3},
        strategy={"fraction": 0.5},
        round={"over_selection": 2.0, "deadline": "10m"},
    )

    found = drive(ledger(several), how)

    for one in found.phases:
        assert (one.selected, one.admitted, one.eligible) == (10, 5, 10)
        assert one.surplus + one.silent == 5
        assert one.ended_ms - one.began_ms < 1000
        assert one.why == "quorum: 5 of 10 replied well"


def test_the_deadline_ends_a_round_and_late_replies_are_counted() -> None:
    slow = MemoryDevice("cam-9", Learner(9), takes_ms=12_000)
    found = drive(ledger([*devices(3), slow]), plan(run={"rounds": 2}))

    first = found.phases[0]
    assert (first.selected, first.admitted, first.silent, first.late) == (4, 3, 1, 1)
    assert first.why == "deadline: 3 of 4 had replied well"
    assert first.ended_ms - first.began_ms >= 10_000


def test_who_drops_out_in_the_middle_changes_nothing_for_the_others() -> None:
    alone = drive(ledger(devices(3)), plan())
    gone = MemoryDevice("cam-9", silent)

    together = drive(ledger([*devices(3), gone]), plan())

    assert together.final_sha256 == alone.final_sha256
    assert [one.silent for one in together.phases] == [1, 1, 1]


def test_what_is_counted_adds_up() -> None:
    several = [*devices(6), MemoryDevice("cam-8", declining), MemoryDevice("cam-9", silent)]
    found = drive(ledger(several), plan(round={"quorum": 0.5}, evaluation=WHOLE))

    for one in found.phases:
        parts = (one.admitted, one.declined, one.refused, one.surplus, one.silent)
        assert sum(parts) == one.selected
        tasks = [task for task in found.tasks.values() if task.step == one.step]
        assert one.bytes_up == sum(
            task.reply_length for task in tasks if task.state is not TaskState.LATE
        )
        assert one.bytes_down > one.selected * 200


def test_devices_that_are_not_eligible_are_not_asked() -> None:
    several = devices(5)
    several[0].eligible = False
    several[1].connected = False

    found = drive(ledger(several), plan(run={"rounds": 1}))

    assert {task.device for task in found.tasks.values()} == {"cam-2", "cam-3", "cam-4"}


def test_a_round_begins_when_enough_are_ready() -> None:
    several = devices(2)
    several[1].eligible = False
    found = ledger(several)
    exchange = MemoryExchange(found)
    wait = exchange.wait

    def comes(seconds: float) -> None:
        several[1].eligible = True
        wait(seconds)

    exchange.wait = comes  # type: ignore[method-assign]
    how = plan(run={"rounds": 1})
    Driver(exchange, how, strategy_of(how, 77), initial()).drive()

    assert found.phases[0].admitted == 2


def test_too_few_that_are_ready_are_told_round_after_round_and_then_it_fails() -> None:
    found = ledger(devices(1))
    how = plan(run={"rounds": 1})

    with pytest.raises(TooFewDevices, match="round 1, 5 times: 1 were ready, 2 are needed"):
        drive(found, how)

    assert [one.why for one in found.phases] == ["1 were ready, 2 are needed"] * 5
    assert all(one.selected == 0 for one in found.phases)


def test_too_few_good_replies_are_not_aggregated() -> None:
    several = [*devices(1), MemoryDevice("cam-9", declining)]
    found = ledger(several)

    with pytest.raises(TooFewDevices, match="round 1, 5 times: 1 replied well, 2 are needed"):
        drive(found, plan())

    assert found.checkpoint is not None
    assert arrays_of(found.blobs[found.checkpoint.arrays_sha256])["weight"].any() == np.False_


def test_a_run_that_failed_goes_on_when_it_is_resumed() -> None:
    other = MemoryDevice("cam-9", declining)
    found = ledger([*devices(1), other])
    with pytest.raises(TooFewDevices):
        drive(found, plan())
    other.answer = Learner(9)

    drive(found, plan())

    assert found.run.state is RunState.FINISHED
    assert [one.round for one in found.phases] == [1, 1, 1, 1, 1, 1, 2, 3]


def test_nobody_who_evaluates_is_no_reason_to_fail() -> None:
    def trains(message: message_pb2.Message, task: Task) -> bytes | None:
        return None if task.phase is Phase.EVALUATE else learner(message, task)

    learner = Learner(1)
    several = [MemoryDevice(f"cam-{number}", trains) for number in range(2)]

    found = drive(ledger(several), plan(run={"rounds": 1}, evaluation=WHOLE))

    assert found.run.state is RunState.FINISHED
    assert found.phases[0].metrics == {}
    assert found.phases[0].silent == 2


@pytest.mark.parametrize("how", [plan(), plan(round=BUFFERED)], ids=["rounds", "buffered"])
def test_a_run_that_is_stopped_ends_in_the_middle_of_a_round(how: Plan) -> None:
    found = ledger(devices(4))
    found.devices[devices(1)[0].id].answer = stopping(found)

    with pytest.raises(Stopped):
        drive(found, how)

    assert found.final_sha256 == ""


def stopping(found: Ledger) -> Callable[..., None]:
    def answer(message: message_pb2.Message, task: Task) -> None:
        found.run = replace(found.run, state=step("run", found.run.state, RunEvent.STOP))

    return answer


@pytest.mark.parametrize("how", [plan(), plan(round=BUFFERED)], ids=["rounds", "buffered"])
def test_a_run_that_was_stopped_goes_on_without_waiting_for_who_was_told_to_give_up(
    how: Plan,
) -> None:
    found = ledger(devices(4))
    stops, learner = stopping(found), found.devices[devices(1)[0].id].answer
    found.devices[devices(1)[0].id].answer = stops
    with pytest.raises(Stopped):
        drive(found, how)
    found.devices[devices(1)[0].id].answer = learner
    found.due.clear()
    found.tasks = {
        name: replace(task, state=TaskState.SILENT) if task.state is TaskState.POSTED else task
        for name, task in found.tasks.items()
    }
    found.run = replace(found.run, state=RunState.RUNNING)
    began = found.now_ms

    drive(found, how)

    assert found.run.state is RunState.FINISHED
    assert found.now_ms - began < 5_000


def test_a_strategy_that_makes_nothing_of_the_replies_is_named() -> None:
    how = plan(strategy={"name": "FedAdam", "eta": 1e300})

    with pytest.raises(NoAggregate, match="round 1, 5 times: the strategy made 'weight' infinite"):
        drive(ledger(devices(3)), how)


def test_the_same_seed_asks_the_same_devices_and_another_one_others() -> None:
    def asked(seed: int) -> list[tuple[int, str]]:
        how = plan(
            run={"rounds": 4, "seed": seed}, strategy={"fraction": 0.4}, round={"over_selection": 1}
        )
        found = drive(ledger(devices(10)), how)
        return sorted((task.step, task.device) for task in found.tasks.values())

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)
    assert len({device for _, device in asked(1)}) > 4


def test_devices_are_told_how_to_train_in_flowers_words() -> None:
    how = plan(
        run={"rounds": 1},
        strategy={"name": "FedProx"},
        training={"proximal": 0.5, "momentum": 0.9, "batch_size": 8, "max_steps": 70},
    )
    found = drive(ledger(devices(2)), how)

    message = message_pb2.Message.FromString(next(iter(found.tasks.values())).message)
    (config,) = message.content.items
    values = {item.key: item.value for item in config.config_record.items}
    assert values["local-epochs"].sint64 == 2
    assert values["batch-size"].sint64 == 8
    assert values["lr"].double == 0.5
    assert values["momentum"].double == 0.9
    assert values["proximal-mu"].double == 0.5
    assert values["max-steps"].sint64 == 70
    assert values["server-round"].sint64 == 1
    assert message.metadata.message_type == "train"
    assert (message.metadata.run_id, message.metadata.src_node_id) == (77, 1)


def test_where_a_look_takes_long_there_are_few() -> None:
    found = ledger([MemoryDevice(f"cam-{at}", Learner(at), 10 + at) for at in range(40)])
    exchange = MemoryExchange(found)
    tasks, looks = exchange.tasks, []

    def slowly(step: int) -> Sequence[Task]:
        looks.append(found.now_ms)
        found.now_ms += 5
        return tasks(step)

    exchange.tasks = slowly  # type: ignore[method-assign]
    how = plan(run={"rounds": 1})
    Driver(exchange, how, strategy_of(how, 77), initial()).drive()

    assert found.phases[0].admitted == 40
    assert len(looks) < 10


def test_the_arrays_of_a_round_are_stored_once_and_travel_by_digest() -> None:
    found = drive(ledger(devices(6)), plan(run={"rounds": 1}))

    references = {task.arrays for task in found.tasks.values()}
    assert len(references) == 1
    (reference,) = references.pop()
    assert found.blobs[reference.sha256] == initial()
    assert reference.length == len(initial())


def test_a_reply_of_a_device_that_was_revoked_meanwhile_does_not_count() -> None:
    """Whoever looks has read it already, and waits for others."""
    several = devices(4)
    found, alone = ledger(several), ledger([*several[1:], MemoryDevice("cam-0", silent)])
    exchange = MemoryExchange(found)
    tasks = exchange.tasks

    def looking(step: int) -> Sequence[Task]:
        """Once three have replied, the first is revoked."""
        replied = [one for one in tasks(step) if one.state is TaskState.REPLIED]
        first = next((one for one in replied if one.device == "cam-0"), None)
        if first is not None and len(replied) == 3:
            (found.tasks[first.id],) = disowned([first], "cam-0")
        return tasks(step)

    exchange.tasks = looking  # type: ignore[method-assign]
    how = plan(run={"rounds": 1})
    for one in (exchange, MemoryExchange(alone)):
        Driver(one, how, strategy_of(how, 77), initial()).drive()

    assert found.final_sha256 == alone.final_sha256
    refused = [one for one in found.tasks.values() if one.state is TaskState.REFUSED]
    assert [(one.device, one.code) for one in refused] == [("cam-0", "revoked")]
    assert (found.phases[0].refused, found.phases[0].surplus) == (1, 0)
    assert found.phases[0].reasons == {"revoked": 1}
