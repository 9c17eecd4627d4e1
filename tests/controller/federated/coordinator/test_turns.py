"""Over the rounds of a run each device has its turn."""

from collections import Counter

from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import strategy_of
from controller.federated.coordinator.selection import drawn, generator
from controller.federated.plan import Plan
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.pretend import (
    declining,
    devices,
    initial,
    ledger,
    plan,
    silent,
)

HALF = {"fraction": 0.5}
EXACTLY = {"over_selection": 1.0, "minimum_cohort": 1}


def drive(found: Ledger, how: Plan) -> Ledger:
    Driver(MemoryExchange(found), how, strategy_of(how, 77), initial()).drive()
    return found


def asked(found: Ledger) -> list[set[str]]:
    """Devices by step."""
    steps = sorted({task.step for task in found.tasks.values()})
    return [{one.device for one in found.tasks.values() if one.step == step} for step in steps]


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
