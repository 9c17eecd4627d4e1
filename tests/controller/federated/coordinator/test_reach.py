"""A device without a link holds up nobody for longer than the run has patience."""

from collections.abc import Callable
from dataclasses import replace

from controller.federated.coordinator.buffered_driver import BufferedDriver
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import strategy_of
from controller.federated.coordinator.reach import LEFT, NO_LINK, Patience, away
from controller.federated.exchange import Exchange, Node
from controller.federated.plan import Plan
from controller.federated.run import RunState
from controller.federated.task import Phase, TaskState
from protos.flower import message_pb2
from simulations.federated.memory_exchange import START_MS, Ledger, MemoryDevice, MemoryExchange
from tests.contracts.federated_values import TASK
from tests.controller.federated.coordinator.pretend import devices, initial, ledger, plan, silent

PATIENCE = Patience(60.0, 2)
AT = TASK.posted_ms


def node(number: int, away_ms: int = 0) -> Node:
    return Node(number, f"cam-{number}", connected=not away_ms, eligible=True, away_ms=away_ms)


def test_nobody_is_given_up_sooner_than_patience_after_the_link_the_task_and_the_coordinator() -> (
    None
):
    tasks = [replace(TASK, id=str(number), node=number) for number in range(2, 6)]
    nodes = [node(2), node(3, AT - 500), node(4, AT + 2_000)]

    found = away(tasks, {2}, nodes, PATIENCE, AT - 9)
    assert {one.node: one.until_ms - AT for one in found.values()} == {
        3: 60_000, 4: 62_000, 5: 60_000,
    }  # fmt: skip
    assert [found[number].code for number in (3, 4, 5)] == [NO_LINK, NO_LINK, LEFT]

    later = away(tasks, {2, 3}, nodes, PATIENCE, AT + 7_000)
    assert {one.until_ms - AT for one in later.values()} == {67_000}
    assert away(tasks, {2, 3, 4, 5}, nodes, PATIENCE, AT) == {}


def rounds(**more: object) -> Plan:
    return plan(
        run={"rounds": 1},
        round={"deadline": "10m", "patience": "60s", "over_selection": 1.0, **more},
    )


def synchronous(found: Plan) -> Callable[[Exchange], None]:
    return lambda exchange: Driver(exchange, found, strategy_of(found, 77), initial()).drive()


def unplugging(name: str) -> MemoryDevice:
    """A device that takes its task, and at whose reply's time its link is down."""

    def answer(_: message_pb2.Message, __: object) -> None:
        one.connected, one.away_ms = False, START_MS + 500

    one = MemoryDevice(name, answer, 20)
    return one


def unplugged(willing: int) -> Ledger:
    return ledger([*devices(willing), unplugging("cam-9")])


def test_a_round_ends_early_without_those_whose_link_is_down_and_says_so() -> None:
    found = unplugged(3)
    synchronous(rounds())(MemoryExchange(found))

    (record,) = found.phases
    assert found.run.state is RunState.FINISHED
    assert (record.selected, record.admitted, record.silent) == (4, 3, 1)
    assert record.reasons == {NO_LINK: 1}
    assert record.why == "all within reach have answered: 3 of 4 replied well, 1 without a link"
    assert 60_000 <= record.ended_ms - record.began_ms < 70_000
    task = next(one for one in found.tasks.values() if one.device == "cam-9")
    assert (task.state, task.code, task.reason) == (TaskState.SILENT, NO_LINK, "it had no link")


def test_with_fewer_good_replies_than_are_needed_it_waits_for_them_to_come_back() -> None:
    found = unplugged(2)
    exchange = MemoryExchange(found)
    named = {one.name: one for one in found.devices.values()}
    back, wait = named["cam-9"], exchange.wait

    def waiting(seconds: float) -> None:
        wait(seconds)
        if found.now_ms > START_MS + 300_000 and not back.connected:
            back.connected, back.answer = True, named["cam-0"].answer
            task = next(one for one in found.tasks.values() if one.device == "cam-9")
            found.due.append((found.now_ms + 10, 99, task.id))

    exchange.wait = waiting  # type: ignore[method-assign]
    synchronous(rounds(minimum_cohort=3))(exchange)

    (record,) = found.phases
    assert (record.admitted, record.silent, record.why) == (3, 0, "everybody has replied")
    assert record.ended_ms - record.began_ms > 300_000


def test_one_that_is_connected_and_slow_is_waited_for_until_the_deadline() -> None:
    found = ledger([*devices(3), MemoryDevice("cam-9", silent, 20)])
    synchronous(rounds())(MemoryExchange(found))

    (record,) = found.phases
    assert (record.admitted, record.silent, record.reasons) == (3, 1, {})
    assert record.ended_ms - record.began_ms >= 600_000


def test_an_evaluation_does_not_wait_for_them_either() -> None:
    found = unplugged(3)
    asked = rounds().model_copy(
        update={"evaluation": rounds().evaluation.model_copy(update={"before": True})}
    )
    synchronous(asked)(MemoryExchange(found))

    first = found.phases[0]
    assert (first.phase, first.admitted, first.reasons) == (Phase.EVALUATE, 3, {NO_LINK: 1})
    assert first.ended_ms - first.began_ms < 70_000


def test_in_buffered_they_make_place_for_others() -> None:
    """Else the run would stand still: as many are away as may be at work."""
    asked = rounds(mode="buffered", buffer=2, concurrency=2)
    found = ledger([unplugging("cam-8"), unplugging("cam-9")])
    others = {one.id: one for one in devices(2)}
    exchange = MemoryExchange(found)
    wait = exchange.wait

    def waiting(seconds: float) -> None:
        wait(seconds)
        found.devices.update(others)  # they come when the first two have been asked

    exchange.wait = waiting  # type: ignore[method-assign]
    BufferedDriver(exchange, asked, initial()).drive()

    (record,) = found.phases
    assert (found.run.state, record.admitted) == (RunState.FINISHED, 2)
    assert 60_000 <= record.ended_ms - record.began_ms < 70_000
