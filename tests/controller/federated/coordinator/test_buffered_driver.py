"""Buffered runs, from their file to their end: no rounds, and nobody waits for the slowest."""

import pytest

from controller.federated.coordinator.errors import TooFewDevices
from controller.federated.task import Phase, TaskState
from simulations.federated.memory_exchange import MemoryDevice
from tests.controller.federated.coordinator.driving import BUFFERED, WHOLE, drive
from tests.controller.federated.coordinator.pretend import (
    declining,
    devices,
    ledger,
    plan,
    silent,
)


def test_slow_devices_hold_nobody_up_and_their_updates_weigh_less() -> None:
    several = devices(6)
    several[0].takes_ms = 700
    how = plan(run={"rounds": 12}, round={**BUFFERED, "staleness": 20})

    found = drive(ledger(several), how)

    assert found.now_ms - found.phases[0].began_ms < 2_000
    slow = [task for task in found.tasks.values() if task.device == several[0].name]
    assert TaskState.ADMITTED in {task.state for task in slow}


def test_an_update_that_is_too_old_is_refused_or_given_up() -> None:
    several = devices(6)
    several[0].takes_ms = 700
    how = plan(run={"rounds": 12}, round={**BUFFERED, "staleness": 1})

    found = drive(ledger(several), how)

    slow = {task.state for task in found.tasks.values() if task.device == several[0].name} - {
        TaskState.LATE
    }
    assert slow <= {TaskState.SILENT, TaskState.REFUSED}


def test_what_is_counted_adds_up_over_versions() -> None:
    several = [*devices(6), MemoryDevice("cam-8", declining), MemoryDevice("cam-9", silent)]
    how = plan(run={"rounds": 9}, round=BUFFERED, evaluation={**WHOLE, "every": 3})

    found = drive(ledger(several), how)

    for one in found.phases:
        parts = (one.admitted, one.declined, one.refused, one.surplus, one.silent)
        assert sum(parts) == one.selected
    trained = [one for one in found.phases if one.phase is Phase.TRAIN]
    assert [one.round for one in trained] == list(range(1, 10))
    assert [one.admitted for one in trained] == [3] * 9
    assert not [task for task in found.tasks.values() if task.state is TaskState.POSTED]


def test_too_few_updates_until_the_deadline_fail_it_in_the_end() -> None:
    several = [*devices(1), *(MemoryDevice(f"dead-{one}", silent) for one in range(4))]

    with pytest.raises(TooFewDevices, match="of 1 devices; 2 are needed"):
        drive(ledger(several), plan(round=BUFFERED))


def test_fewer_updates_than_the_buffer_make_a_version_at_the_deadline() -> None:
    several = [*devices(2), *(MemoryDevice(f"dead-{one}", silent) for one in range(2))]

    found = drive(ledger(several), plan(run={"rounds": 1}, round=BUFFERED))

    assert found.phases[0].admitted == 2
    assert found.phases[0].why == "deadline: 2 of 3 updates had come"
