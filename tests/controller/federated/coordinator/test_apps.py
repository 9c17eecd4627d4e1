"""A user's own ServerApp or Strategy, unmodified, over the fleet; killed at any call, it ends alike."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from flwr.app import Message
from flwr.serverapp.strategy import DifferentialPrivacyServerSideAdaptiveClipping, FedAvg

from controller.candidate.grid import rounded
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.errors import (
    AppNotDeterministic,
    AppUnfit,
    Stopped,
    TooFewDevices,
)
from controller.federated.coordinator.flower import (
    FlowerStrategy,
    app_of,
    drive_app,
    users_strategy,
)
from controller.federated.coordinator.request import arrays_of, written_arrays
from controller.federated.coordinator.strategy import Update
from controller.federated.evaluation_told import evaluation_of
from controller.federated.exchange import Exchange
from controller.federated.plan import Plan
from controller.federated.run import RunState
from controller.federated.task import Phase, TaskState
from protos.documents import sha256
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator import apps
from tests.controller.federated.coordinator.mortal import (
    Drive,
    Killed,
    MortalExchange,
    calls_of,
    killed_after,
)
from tests.controller.federated.coordinator.pretend import (
    declining,
    devices,
    initial,
    ledger,
    plan,
    silent,
)

PLAN = plan(round={"deadline": "2s"}, config={"num-server-rounds": 2})


def fleet(app: str = "app") -> Ledger:
    others = [MemoryDevice("cam-8", declining, 70), MemoryDevice("cam-9", silent, 80)]
    return ledger([*devices(5), *others], app=f"tests.apps:{app}")


def quickstart(exchange: Exchange) -> None:
    drive_app(apps.app, exchange, PLAN, initial())


def quickstart_evaluated(exchange: Exchange) -> None:
    judged = plan(
        run={"rounds": 5},
        round={"deadline": "2s"},
        config={"num-server-rounds": 2},
        evaluation={"before": True, "after": True},
    )
    drive_app(apps.app, exchange, judged, initial())


def by_hand(exchange: Exchange) -> None:
    drive_app(apps.by_hand, exchange, PLAN, initial())


def own_strategy(exchange: Exchange) -> None:
    Driver(exchange, PLAN, users_strategy(apps.Damped(), 77), initial()).drive()


def wrapped_strategy(exchange: Exchange) -> None:
    """One of Flower's that wraps another, draws noise, and keeps what it clips by."""
    strategy = DifferentialPrivacyServerSideAdaptiveClipping(
        FedAvg(min_available_nodes=3, min_train_nodes=3),
        noise_multiplier=0.1,
        num_sampled_clients=3,
    )
    two = plan(run={"rounds": 2}, round={"deadline": "2s"})
    Driver(exchange, two, users_strategy(strategy, 77), initial()).drive()


@pytest.mark.parametrize(
    "drive", [quickstart, quickstart_evaluated, by_hand, own_strategy, wrapped_strategy]
)
def test_it_runs_unmodified_and_killed_at_any_call_it_ends_with_the_same_bits(
    drive: Drive,
) -> None:
    whole = fleet()
    calls = calls_of(whole, drive)
    assert whole.run.state is RunState.FINISHED
    assert whole.final_sha256 in whole.blobs

    for count in range(calls):
        cut = fleet()
        killed_after(cut, drive, count)

        assert cut.final_sha256 == whole.final_sha256, count


def test_what_it_learns_is_better_than_what_it_began_with() -> None:
    found = fleet()
    quickstart(MemoryExchange(found))

    losses = [one.metrics["eval_loss"] for one in found.phases if one.phase is Phase.EVALUATE]
    assert len(losses) == 2
    assert losses[1] < losses[0] < 1.0986
    arrays = arrays_of(found.blobs[found.final_sha256])
    assert {name: array.shape for name, array in arrays.items()} == {"weight": (6, 3), "bias": (3,)}


def test_what_is_shipped_is_evaluated_beside_the_parent_whatever_the_app_evaluates() -> None:
    found = fleet()
    quickstart_evaluated(MemoryExchange(found))

    evaluated = [one for one in found.phases if one.phase is Phase.EVALUATE]
    before, after = evaluated[0], evaluated[-1]
    assert (before.step, before.round) == (1, 0)
    assert (after.step, after.round) == (found.phases[-1].step, found.run.round) == (7, 2)
    assert evaluation_of(before.metrics).loss == before.metrics["loss"]
    told = evaluation_of(after.metrics).loss
    assert told is not None
    assert told < before.metrics["loss"]
    asked = {one.arrays[0].sha256 for one in found.tasks.values() if one.step == after.step}
    parent, trained = arrays_of(initial()), arrays_of(found.blobs[found.final_sha256])
    assert asked == {sha256(written_arrays(rounded(parent, trained)))}


def test_a_run_that_was_begun_without_evaluations_goes_on_as_it_was() -> None:
    whole = fleet()
    for count in range(calls_of(whole, quickstart)):
        cut = fleet()
        with suppress(Killed):
            quickstart(MortalExchange(cut, count))  # as an earlier release has begun it
        quickstart_evaluated(MemoryExchange(cut))

        assert cut.run.state is RunState.FINISHED, count
        assert cut.final_sha256 == whole.final_sha256, count


def test_declines_are_told_to_it_and_silence_is_not() -> None:
    found = fleet()
    quickstart(MemoryExchange(found))

    states = {task.device: task.state for task in found.tasks.values() if task.step > 1}
    assert states["cam-8"] is TaskState.DECLINED
    assert states["cam-9"] is TaskState.SILENT
    assert all(one.admitted >= 2 for one in found.phases if one.phase is Phase.TRAIN)


def test_one_that_asks_something_else_after_a_restart_is_told_so() -> None:
    found = ledger(devices(3), app="tests.apps:moody")
    with pytest.raises(Killed):
        drive_app(apps.moody, MortalExchange(found, 12), PLAN, initial())
    assert any(one.phase is Phase.TRAIN for one in found.phases)

    with pytest.raises(AppNotDeterministic, match="step 2: it asks 3 of 3 nodes something else"):
        drive_app(apps.moody, MemoryExchange(found), PLAN, initial())


def test_one_that_waits_for_devices_that_never_come_waits_no_longer_than_a_phase_may_take() -> None:
    found = ledger(devices(2))
    began = found.now_ms

    with pytest.raises(TooFewDevices, match="2 are ready"):
        drive_app(apps.waiting, MemoryExchange(found), PLAN, initial())

    assert found.now_ms - began < 10_000


def test_one_that_waits_sees_who_comes_later() -> None:
    late = MemoryDevice("cam-9", silent, connected=False)
    found = ledger([*devices(2), late])
    exchange = MemoryExchange(found)
    wait = exchange.wait

    def comes(seconds: float) -> None:
        late.connected = True
        wait(seconds)

    exchange.wait = comes  # type: ignore[method-assign]
    with pytest.raises(TooFewDevices, match="3 are ready"):
        drive_app(apps.waiting, exchange, PLAN, initial())


def test_one_that_leaves_no_parameters_has_failed() -> None:
    with pytest.raises(AppUnfit, match="has left no parameters"):
        drive_app(apps.idle, MemoryExchange(ledger(devices(2))), PLAN, initial())


def test_too_few_good_replies_to_a_training_are_asked_for_again_and_then_it_fails() -> None:
    several = [MemoryDevice(f"cam-{number}", declining) for number in range(4)]
    found = ledger(several, app="tests.apps:app")

    with pytest.raises(TooFewDevices, match="5 times in a row: 0 of 2 replied well, 2 are needed"):
        quickstart(MemoryExchange(found))


def test_an_app_that_catches_everything_does_not_outlive_its_run() -> None:
    found = ledger(devices(3), app="tests.apps:app")
    found.run = replace(found.run, state=RunState.STOPPING)

    with pytest.raises(Stopped):
        quickstart(MemoryExchange(found))


def test_what_is_neither_an_app_nor_a_strategy_is_refused_by_name() -> None:
    assert isinstance(app_of(apps.damped, "apps:damped", 77), FlowerStrategy)
    assert callable(app_of(apps.app, "apps:app", 77))
    with pytest.raises(AppUnfit, match="apps:nothing: int is neither a ServerApp nor a Strategy"):
        app_of(apps.nothing, "apps:nothing", 77)


def test_a_strategy_that_wants_more_nodes_than_there_are_ends_in_words() -> None:
    greedy = apps.Damped()
    greedy.min_available_nodes = 50
    quick: Plan = plan(round={"deadline": "1s"})

    with pytest.raises(TooFewDevices, match="round 1, 5 times: 3 were ready, 50 are needed"):
        Driver(
            MemoryExchange(ledger(devices(3))), quick, users_strategy(greedy, 77), initial()
        ).drive()


class _Heard(FedAvg):
    """Notes who answers."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[int] = []

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """As Flower does."""
        several = list(replies)
        self.nodes = [one.metadata.src_node_id for one in several]
        return super().aggregate_train(server_round, several)


def test_a_strategy_that_chose_others_after_a_restart_hears_who_answers_all_the_same() -> None:
    strategy = _Heard()
    arrays = arrays_of(initial())
    updates = [Update(node, 1.0, arrays, {}) for node in (11, 12)]

    users_strategy(strategy, 77).aggregate(1, updates, 5)

    assert strategy.nodes == [11, 12]
