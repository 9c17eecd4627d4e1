"""Devices that tell of an evaluation what no honest one tells: nobody decides by it."""

from collections.abc import Callable
from itertools import count

import pytest

from agent.federated.evaluation import Evaluation
from agent.federated.reply import METRICS, evaluate_reply
from controller.federated.coordinator.admission import Code
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.fleet import comparable
from controller.federated.coordinator.flower import strategy_of
from controller.federated.evaluation_told import evaluation_of
from controller.federated.exchange import PhaseRecord
from controller.federated.task import Phase, Task, node_id
from protos.flower import message_pb2
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.pretend import (
    Learner,
    declining,
    devices,
    initial,
    ledger,
    plan,
)


def test_a_reply_to_an_evaluation_that_does_not_add_up_is_left_out() -> None:
    def lying(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message()
        made.metadata.reply_to_message_id = task.id
        record = made.content.items.add(key=METRICS).metric_record
        for key in ("examples", "judged"):
            record.items.add(key=key).value.sint64 = 10
        record.items.add(key="correct").value.sint64 = 11
        for key in ("loss-sum", "absolute-error-sum", "squared-error-sum"):
            record.items.add(key=key).value.double = 0.0
        for key in ("truth-sum", "truth-squared-sum"):
            record.items.add(key=key).value.double = 0.0
        return made.SerializeToString()

    found = plan(run={"rounds": 1}, evaluation={"before": True})
    alone, together = ledger(devices(3)), ledger([*devices(3), MemoryDevice("cam-9", lying)])
    for one in (alone, together):
        Driver(MemoryExchange(one), found, strategy_of(found, 77), initial()).drive()

    assert together.phases[0].metrics == alone.phases[0].metrics
    assert together.phases[0].reasons == {Code.METRICS: 1, Code.RECORDS: 0} or (
        together.phases[0].reasons == {Code.METRICS: 1}
    )


def first_of_all() -> str:
    """The name of a device whose node id is before those of the honest ones."""
    first = min(node_id(one.name) for one in devices(3))
    return next(name for n in count() if node_id(name := f"bad-{n}") < first)


def telling(evaluation: Evaluation) -> Callable[..., bytes]:
    return lambda message, _: evaluate_reply(message, evaluation)


OTHERWISE = Evaluation(examples=40, loss_sum=9.0, judged=40)


MUCH_OF_ONE = Evaluation(
    examples=1,
    judged=10**12,
    correct=10**12,
    confusion=(10**12, *(8 * (0,))),
    confidences=(10**12, *(9 * (0,))),
    confident_correct=(10**12, *(9 * (0,))),
)


@pytest.mark.parametrize("told", [OTHERWISE, MUCH_OF_ONE])
def test_nobody_decides_by_its_counts_whose_counts_are_heard(told: Evaluation) -> None:
    found = plan(run={"rounds": 1}, evaluation={"before": True})
    alone = ledger(devices(3))
    together = ledger([*devices(3), MemoryDevice(first_of_all(), telling(told), 10)])
    for one in (alone, together):
        Driver(MemoryExchange(one), found, strategy_of(found, 77), initial()).drive()

    assert together.phases[0].metrics == alone.phases[0].metrics
    assert together.phases[0].reasons == {Code.METRICS: 1}


def evaluation_run(found: Ledger, **evaluation: object) -> list[PhaseRecord]:
    """The phases of a run of one round that is evaluated before and after."""
    wanted = plan(run={"rounds": 1}, evaluation={"before": True, "after": True, **evaluation})
    Driver(MemoryExchange(found), wanted, strategy_of(wanted, 77), initial()).drive()
    return found.phases


@pytest.mark.parametrize("mean", [1e30, -1e30])
@pytest.mark.parametrize("right", [True, False])
def test_one_finite_lie_decides_neither_loss_nor_accuracy(mean: float, *, right: bool) -> None:
    cells = [0] * 9
    cells[0 if right else 1] = 40
    lie = Evaluation(
        examples=40,
        loss_sum=40 * mean,
        judged=40,
        correct=40 * right,
        confusion=tuple(cells),
        confidences=(*(9 * (0,)), 40),
        confident_correct=(*(9 * (0,)), 40 * right),
    )
    alone = evaluation_run(ledger(devices(4)))
    together = evaluation_run(ledger([*devices(4), MemoryDevice("cam-9", liar(lie))]))

    for before, after in zip(alone, together, strict=True):
        if before.phase is Phase.EVALUATE:
            assert 0.5 * before.metrics["loss"] < after.metrics["loss"] < 2 * before.metrics["loss"]
            assert after.metrics["accuracy"] == pytest.approx(before.metrics["accuracy"], abs=0.1)


def liar(lie: Evaluation) -> Callable[..., bytes]:
    """Trains as others do, and lies of what came of it."""
    learner = Learner(9)

    def answer(message: message_pb2.Message, task: Task) -> bytes:
        if task.phase is Phase.EVALUATE:
            return evaluate_reply(message, lie)
        return learner(message, task)

    return answer


def test_what_fewer_devices_tell_than_are_believed_is_not_known() -> None:
    silent = [MemoryDevice(f"bad-{at}", declining) for at in range(2)]
    first, *_, last = evaluation_run(ledger([*devices(3), *silent]), minimum_cohort=4)

    assert first.metrics == last.metrics == {}
    assert last.why.endswith("; 3 held examples out, 4 are needed: nothing is known")
    assert evaluation_run(ledger([*devices(3), *silent]), minimum_cohort=3)[-1].metrics


def test_those_that_told_of_the_parent_are_asked_of_what_came_of_it() -> None:
    found = ledger(devices(8))
    evaluation_run(found, fraction=0.4)

    told = [{task.node for task in found.tasks.values() if task.step == step} for step in (1, 3)]
    assert told[0] == told[1]
    assert len(told[0]) == 4


def test_who_told_nothing_of_the_parent_is_not_compared_with_it() -> None:
    """It declines the first evaluation, and has all right in the last."""
    perfect = Evaluation(
        examples=40,
        judged=40,
        correct=40,
        confusion=(40, *(8 * (0,))),
        confidences=(*(9 * (0,)), 40),
        confident_correct=(*(9 * (0,)), 40),
    )

    def late(message: message_pb2.Message, task: Task) -> bytes:
        return declining(message, task) if task.round == 0 else liar(perfect)(message, task)

    first, *_, last = evaluation_run(ledger([*devices(4), MemoryDevice("cam-9", late, 10)]))

    assert (first.admitted, first.declined) == (4, 1)
    assert (last.admitted, last.surplus) == (4, 1)
    assert last.why.endswith("; 1 that told nothing of the parent are left out")
    assert first.metrics["examples"] == last.metrics["examples"]


def test_who_told_of_no_example_has_told_nothing_of_the_parent() -> None:
    """They would be most of those that told of both, and nobody could be compared."""
    kinds = Evaluation(confusion=9 * (0,), confidences=10 * (0,), confident_correct=10 * (0,))

    def idle(message: message_pb2.Message, task: Task) -> bytes:
        return declining(message, task) if task.round else liar(kinds)(message, task)

    def late(message: message_pb2.Message, task: Task) -> bytes:
        return (Learner(9) if task.round else declining)(message, task)

    several = [MemoryDevice(f"idle-{at}", idle) for at in range(6)]
    first, *_, last = evaluation_run(ledger([*devices(4), *several, MemoryDevice("cam-9", late)]))

    assert (first.admitted, first.surplus) == (4, 6)
    assert (last.admitted, last.surplus) == (4, 1)


@pytest.mark.parametrize(
    ("same", "before", "now", "enough"),
    [(2, 3, 4, True), (1, 1, 1, False), (2, 5, 2, False), (2, 2, 5, False), (0, 0, 4, False)],
)
def test_those_that_told_of_both_speak_for_all_where_they_are_half_of_them(
    same: int, before: int, now: int, *, enough: bool
) -> None:
    assert comparable(same, before, now, fewest=2) == enough


def test_an_evaluation_counts_as_many_examples_as_is_allowed_and_no_more() -> None:
    many = 2**30
    owning = Evaluation(
        examples=many,
        loss_sum=float(many),
        judged=many,
        correct=many,
        confusion=(many, *(8 * (0,))),
        confidences=(many, *(9 * (0,))),
        confident_correct=(many, *(9 * (0,))),
    )
    found = plan(run={"rounds": 1}, evaluation={"before": True})
    together = ledger([*devices(3), MemoryDevice("cam-9", telling(owning))])
    Driver(MemoryExchange(together), found, strategy_of(found, 77), initial()).drive()

    told = evaluation_of(together.phases[0].metrics)
    assert told.examples == told.judged == 30 + 35 + 40 + 2 * 35
    assert sum(told.confusion) == sum(told.confidences) == told.judged
