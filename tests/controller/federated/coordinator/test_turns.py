"""Over the rounds of a run: each device has its turn, and the last global models have one mean."""

from collections import Counter

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg

from controller.candidate.grid import rounded
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import users_strategy
from controller.federated.coordinator.request import arrays_of
from controller.federated.coordinator.selection import drawn, generator
from controller.federated.task import Phase
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.driving import drive
from tests.controller.federated.coordinator.pretend import (
    Floats,
    declining,
    devices,
    initial,
    ledger,
    plan,
    silent,
)

HALF = {"fraction": 0.5}
EXACTLY = {"over_selection": 1.0, "minimum_cohort": 1}


def asked(found: Ledger) -> list[set[str]]:
    """Devices by step."""
    steps = sorted({task.step for task in found.tasks.values()})
    return [{one.device for one in found.tasks.values() if one.step == step} for step in steps]


def models(found: Ledger) -> list[dict[str, Floats]]:
    """The global model of each round, from the parent's on."""
    tasks = sorted(found.tasks.values(), key=lambda task: task.step)
    assert found.checkpoint is not None
    by_round = {task.round: task.arrays[0].sha256 for task in tasks if task.phase is Phase.TRAIN}
    return [arrays_of(found.blobs[one]) for one in by_round.values()] + [
        arrays_of(found.blobs[found.checkpoint.arrays_sha256])
    ]


def test_each_has_its_turn_before_anybody_has_another() -> None:
    found = drive(ledger(devices(8)), plan(run={"rounds": 6}, strategy=HALF, round=EXACTLY))

    told = asked(found)
    everybody = {f"cam-{number}" for number in range(8)}
    assert [len(one) for one in told] == [4] * 6
    for first, second in zip(told[::2], told[1::2], strict=True):
        assert first | second == everybody
    assert told[0] not in told[2::2]


def test_who_declines_or_never_answers_has_had_its_turn() -> None:
    others = [MemoryDevice("cam-8", declining, 70), MemoryDevice("cam-9", silent, 80)]
    how = plan(run={"rounds": 8}, strategy=HALF, round=EXACTLY)

    times = Counter(
        name for one in asked(drive(ledger([*devices(6), *others]), how)) for name in one
    )

    assert set(times.values()) == {4}


def test_without_rotation_each_round_is_drawn_anew() -> None:
    how = plan(run={"rounds": 4, "seed": 3}, strategy=HALF, round={**EXACTLY, "rotation": False})

    found = drive(ledger(devices(8)), how)

    nodes = sorted(found.devices)
    for step, told in enumerate(asked(found), start=1):
        chosen = drawn(nodes, 4, generator(3, step))
        assert told == {found.devices[node].name for node in chosen}


@pytest.mark.parametrize("registered", [True, False])
def test_what_comes_of_a_run_is_the_mean_of_its_last_models(registered: bool) -> None:
    how = plan(
        run={"rounds": 5},
        strategy={"average_last": 0.6},
        evaluation={"after": True, "every": 4},
        candidate={"registered": registered},
    )

    found = drive(ledger(devices(3)), how)

    made, final = models(found), arrays_of(found.blobs[found.final_sha256])
    assert len(made) == 6
    for name, array in final.items():
        mean = np.mean([one[name] for one in made[3:]], axis=0, dtype=np.float64)
        assert np.array_equal(array, mean.astype(np.float32))
        assert not np.array_equal(array, made[-1][name])
    evaluated = {
        task.round: arrays_of(found.blobs[task.arrays[0].sha256])
        for task in found.tasks.values()
        if task.phase is Phase.EVALUATE
    }
    shipped = rounded(arrays_of(initial()), final) if registered else final
    assert all(np.array_equal(evaluated[5][name], array) for name, array in shipped.items())
    assert all(np.array_equal(evaluated[4][name], array) for name, array in made[4].items())


def test_training_goes_on_from_the_newest_model_and_not_from_a_mean() -> None:
    alone = drive(ledger(devices(3)), plan(run={"rounds": 5}, strategy={"average_last": 0.0}))
    found = drive(ledger(devices(3)), plan(run={"rounds": 5}, strategy={"average_last": 1.0}))

    assert alone.checkpoint is not None
    assert found.checkpoint is not None
    assert found.checkpoint.arrays_sha256 == alone.checkpoint.arrays_sha256
    assert alone.final_sha256 == alone.checkpoint.arrays_sha256
    assert found.final_sha256 != alone.final_sha256


def test_a_strategy_of_ones_own_decides_for_itself() -> None:
    how = plan(run={"rounds": 3}, strategy={"average_last": 1.0})
    found = ledger(devices(3))

    Driver(MemoryExchange(found), how, users_strategy(FedAvg(), 77), initial()).drive()

    assert found.checkpoint is not None
    assert found.final_sha256 == found.checkpoint.arrays_sha256
