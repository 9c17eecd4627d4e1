"""One device can neither stop a round nor own it: the result is that of the run without the hostile ones."""

from collections.abc import Callable

import numpy as np
import pytest

from agent.federated.update import as_floats
from controller.federated.coordinator.admission import Code
from controller.federated.coordinator.buffered_driver import BufferedDriver
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import strategy_of
from controller.federated.coordinator.request import arrays_of
from controller.federated.run import RunState
from controller.federated.task import Task, TaskState
from protos.flower import message_pb2
from protos.flower.arrays import npy
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.hostile import (
    ATTACKS,
    WEIGHT,
    learnt,
    stepping,
    with_metrics,
    with_weight_array,
)
from tests.controller.federated.coordinator.pretend import (
    declining,
    devices,
    initial,
    ledger,
    plan,
    reply,
)

PLAN = plan(
    run={"rounds": 2},
    admission={"norm_bound": 100.0, "norm_ratio": 5.0},
    round={"over_selection": 1.0},
)


def driven(found: Ledger) -> Ledger:
    Driver(MemoryExchange(found), PLAN, strategy_of(PLAN, 77), initial()).drive()
    return found


@pytest.fixture(scope="module")
def honest() -> str:
    """What the honest devices come to by themselves."""
    return driven(ledger(devices(4))).final_sha256


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_reply_is_refused_with_its_code_and_changes_nothing(
    name: str, honest: str
) -> None:
    attack, code = ATTACKS[name]
    found = driven(ledger([*devices(4), MemoryDevice("cam-9", attack, 10)]))

    assert found.run.state is RunState.FINISHED
    assert found.final_sha256 == honest
    told = {task.code for task in found.tasks.values() if task.state is TaskState.REFUSED}
    assert told == {code}
    assert [(one.admitted, one.refused, one.reasons) for one in found.phases] == [
        (4, 1, {code: 1}),
        (4, 1, {code: 1}),
    ]


def test_all_of_them_together_stop_nothing(honest: str) -> None:
    hostile = [
        MemoryDevice(f"bad-{number}", attack, 10 + number)
        for number, (attack, code) in enumerate(ATTACKS.values())
        if code
        is not Code.NORM_OF_COHORT  # with the rest refused, it would be judged by the median
    ]

    found = driven(ledger([*devices(4), *hostile]))

    assert found.final_sha256 == honest
    assert found.phases[0].refused == len(hostile)


def test_a_decline_is_told_with_its_code_and_its_words() -> None:
    found = driven(ledger([*devices(3), MemoryDevice("cam-9", declining)]))

    declined = [task for task in found.tasks.values() if task.state is TaskState.DECLINED]
    assert {(task.code, task.reason) for task in declined} == {
        ("on-battery", "not while it runs dry")
    }
    assert found.phases[0].reasons == {"on-battery": 1}


def test_a_reason_that_is_no_code_and_words_is_kept_as_words() -> None:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message()
        made.metadata.reply_to_message_id = task.id
        made.error.reason = "<script>: " + "x" * 9000
        return made.SerializeToString()

    found = driven(ledger([*devices(3), MemoryDevice("cam-9", answer)]))

    (task, *_) = [one for one in found.tasks.values() if one.state is TaskState.DECLINED]
    assert task.code == Code.DECLINED
    assert len(task.reason) <= 300


def test_many_examples_weigh_as_much_as_is_allowed_and_no_more() -> None:
    def owning(examples: int) -> Ledger:
        capped = plan(run={"rounds": 1}, admission={"most_examples": 50})
        found = ledger(
            [*devices(3), MemoryDevice("cam-9", with_metrics({"num-examples": examples}))]
        )
        Driver(MemoryExchange(found), capped, strategy_of(capped, 77), initial()).drive()
        return found

    assert owning(1_000_000).final_sha256 == owning(50).final_sha256
    assert owning(40).final_sha256 != owning(50).final_sha256


def test_a_quick_one_that_is_out_of_the_way_fills_no_quorum() -> None:
    bounded = plan(
        run={"rounds": 1},
        round={"quorum": 0.6, "minimum_cohort": 3},
        admission={"norm_ratio": 5.0},
    )
    found = ledger([*devices(4), MemoryDevice("cam-9", stepping(0.5), 10)])
    Driver(MemoryExchange(found), bounded, strategy_of(bounded, 77), initial()).drive()

    assert found.run.state is RunState.FINISHED
    (phase,) = found.phases
    assert (phase.admitted, phase.reasons) == (3, {Code.NORM_OF_COHORT: 1})


def test_updates_that_no_float32_holds_together_end_no_buffered_run() -> None:
    def enormous(message: message_pb2.Message, task: Task) -> bytes:
        largest = np.finfo(np.float32).max
        zeros = arrays_of(initial())
        after = {name: np.full_like(array, largest) for name, array in zeros.items()}
        return reply(message, as_floats(zeros, after).record, {**WEIGHT, "train_loss": 0.5})

    buffered = plan(
        run={"rounds": 2},
        round={"mode": "buffered", "buffer": 2, "minimum_cohort": 2, "concurrency": 4},
    )
    found = ledger([MemoryDevice(f"bad-{n}", enormous, 10 + 2 * n) for n in range(4)])
    BufferedDriver(MemoryExchange(found), buffered, initial()).drive()

    assert found.run.state is RunState.FINISHED
    assert any("where no float32 is" in one.why for one in found.phases)


ODD_METRICS: dict[str, Callable[[message_pb2.MetricRecord], None]] = {
    "one more": lambda record: setattr(record.items.add(key="more").value, "double", 1.0),
    "a list": lambda record: record.items[1].value.double_list.vals.extend([0.5]),
}


@pytest.mark.parametrize("odd", ODD_METRICS.values(), ids=ODD_METRICS)
def test_odd_metrics_do_not_stop_a_strategy_that_sees_every_reply(
    odd: Callable[[message_pb2.MetricRecord], None],
) -> None:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message.FromString(
            reply(message, learnt(message), {**WEIGHT, "train_loss": 0.5})
        )
        odd(made.content.items[1].metric_record)
        return made.SerializeToString()

    median = plan(run={"rounds": 1}, strategy={"name": "FedMedian"})
    found = ledger([*devices(3), MemoryDevice("cam-9", answer, 10)])
    Driver(MemoryExchange(found), median, strategy_of(median, 77), initial()).drive()

    assert found.run.state is RunState.FINISHED
    assert found.phases[0].reasons == {Code.METRICS: 1}


def test_npy_of_ours_passes() -> None:
    """So that the attacks above are refused for what they are."""
    value = npy(np.full((6, 3), 0.01, np.float32))
    found = driven(ledger([*devices(4), MemoryDevice("cam-9", with_weight_array(value), 10)]))

    assert [one.admitted for one in found.phases] == [5, 5]
