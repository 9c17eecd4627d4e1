"""Killed at any moment and started again, a run ends with the same bits."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.federated.coordinator import checkpoint
from controller.federated.coordinator.buffered_driver import BufferedDriver
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import strategy_of
from controller.federated.errors import ReplyWithdrawn
from controller.federated.exchange import Checkpoint, Exchange, Outcome, PhaseRecord
from controller.federated.plan import Plan
from controller.federated.run import RunState
from controller.federated.settling import disowned
from controller.federated.task import TaskState
from simulations.federated.memory_exchange import Ledger, MemoryDevice, MemoryExchange
from tests.controller.federated.coordinator.mortal import (
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

SYNCHRONOUS = {
    "FedAvg": plan(
        run={"rounds": 2},
        strategy={"name": "FedAvg", "fraction": 0.7},
        round={"over_selection": 1.4, "quorum": 0.7},
        update={"encoding": "int8"},
        evaluation={"after": True},
    ),
    "FedAdam": plan(run={"rounds": 3}, strategy={"name": "FedAdam", "eta": 0.05}),
    "averaged, in rotation": plan(
        run={"rounds": 4},
        strategy={"fraction": 0.4, "average_last": 0.7},
        round={"over_selection": 1.0, "minimum_cohort": 1},
        evaluation={"after": True, "every": 3},
    ),
}
BUFFERED = plan(
    run={"rounds": 4}, round={"mode": "buffered", "buffer": 2, "concurrency": 3, "staleness": 1}
)


def synchronous(found: Plan) -> Callable[[Exchange], None]:
    return lambda exchange: Driver(exchange, found, strategy_of(found, 77), initial()).drive()


def buffered(exchange: Exchange) -> None:
    BufferedDriver(exchange, BUFFERED, initial()).drive()


DRIVES: dict[str, Callable[[Exchange], None]] = {
    **{name: synchronous(found) for name, found in SYNCHRONOUS.items()},
    "FedBuff": buffered,
}


def fleet() -> Ledger:
    """Three that learn, one that does not want to, and one that never answers."""
    others = [MemoryDevice("cam-8", declining, 70), MemoryDevice("cam-9", silent, 80)]
    return ledger([*devices(3), *others])


@pytest.mark.parametrize("name", DRIVES)
def test_a_coordinator_killed_at_any_call_and_started_again_ends_with_the_same_bits(
    name: str,
) -> None:
    drive = DRIVES[name]
    whole = fleet()
    calls = calls_of(whole, drive)
    assert whole.run.state is RunState.FINISHED

    for count in range(calls):
        cut = fleet()
        killed_after(cut, drive, count)

        assert cut.run.state is RunState.FINISHED, count
        assert cut.final_sha256 == whole.final_sha256, count
        assert stories(cut) == stories(whole), count


QUORUM = plan(run={"rounds": 2}, round={"quorum": 0.5, "over_selection": 1.5})


ONE_VERSION = plan(run={"rounds": 1}, round={"mode": "buffered", "buffer": 2, "concurrency": 4})


def one_version(exchange: Exchange) -> None:
    """Of more, it would be others that are free when it goes on."""
    BufferedDriver(exchange, ONE_VERSION, initial()).drive()


@pytest.mark.parametrize("drive", [synchronous(QUORUM), one_version], ids=["quorum", "FedBuff"])
def test_a_reply_that_was_being_written_counts_no_more_after_a_kill_than_before(
    drive: Callable[[Exchange], None],
) -> None:
    """It has its moment already, and is to be seen only later: when others have filled the quorum."""

    def slowly_written() -> Ledger:
        several = devices(3)
        several[0].writes_ms = 40
        return ledger([*several, MemoryDevice("cam-9", silent, 80)])

    whole = slowly_written()
    for count in range(calls_of(whole, drive)):
        cut = slowly_written()
        killed_after(cut, drive, count, away_ms=30)

        assert cut.final_sha256 == whole.final_sha256, count
        assert stories(cut) == stories(whole), count


def stories(found: Ledger) -> list[tuple[Any, ...]]:
    """What was decided of each phase; not when: the clock has gone on meanwhile."""
    return [(one.step, one.round, one.admitted, one.metrics) for one in found.phases]


def test_one_killed_again_and_again_gets_there_with_the_same_bits() -> None:
    whole, cut = fleet(), fleet()
    drive = DRIVES["FedAdam"]
    drive(MemoryExchange(whole))

    for _ in range(200):
        try:
            drive(MortalExchange(cut, 8))
            break
        except Killed:
            continue

    assert cut.final_sha256 == whole.final_sha256


@pytest.mark.parametrize(
    ("name", "key", "calls", "forgotten"),
    [
        ("FedAdam", "strategy", 12, {}),
        ("averaged, in rotation", "tail", 16, {"count": 0, "sums": {}}),
        ("averaged, in rotation", "asked", 8, np.array([], np.uint64)),
    ],
)
def test_without_what_was_kept_it_would_end_otherwise(
    name: str, key: str, calls: int, forgotten: Any
) -> None:
    """So that the tests above can fail: each is a part of what is resumed."""
    whole, cut = fleet(), fleet()
    DRIVES[name](MemoryExchange(whole))
    with pytest.raises(Killed):
        DRIVES[name](MortalExchange(cut, calls))
    assert len(cut.phases) >= 1

    stored = cut.checkpoint
    assert stored is not None
    state = checkpoint.read(stored.state)
    state[key] = forgotten
    cut.checkpoint = replace(stored, state=checkpoint.written(state))
    DRIVES[name](MemoryExchange(cut))

    assert cut.final_sha256 != whole.final_sha256


def test_a_run_goes_on_that_an_earlier_release_has_begun() -> None:
    """Its checkpoints say nothing of a turn, nor of the models that are averaged."""
    cut = fleet()
    drive = DRIVES["averaged, in rotation"]
    with pytest.raises(Killed):
        drive(MortalExchange(cut, 8))
    stored = cut.checkpoint
    assert stored is not None
    state = checkpoint.read(stored.state)
    known = {key: state[key] for key in ("place", "strategy")}
    cut.checkpoint = replace(stored, state=checkpoint.written(known))

    drive(MemoryExchange(cut))

    assert cut.run.state is RunState.FINISHED


@pytest.mark.parametrize("drive", DRIVES.values(), ids=DRIVES)
def test_a_device_that_is_revoked_while_replies_are_aggregated_is_in_no_model(
    drive: Callable[[Exchange], None],
) -> None:
    """Whichever counts first, just before its phase is closed."""
    found = fleet()
    exchange, victims = MemoryExchange(found), list[str]()
    close = exchange.close

    def closing(
        outcomes: Sequence[Outcome], record: PhaseRecord, checkpoint: Checkpoint | None
    ) -> None:
        counted = [one.task for one in outcomes if one.state == TaskState.ADMITTED]
        victims.append(counted[0])
        tasks, device = found.tasks, found.tasks[counted[0]].device
        tasks |= {one.id: one for one in disowned(list(tasks.values()), device)}
        close(outcomes, record, checkpoint)

    exchange.close = closing  # type: ignore[method-assign]
    with pytest.raises(ReplyWithdrawn):
        drive(exchange)
    assert (found.phases, found.checkpoint) == ([], None)

    drive(MemoryExchange(found))

    assert found.tasks[victims[0]].state is TaskState.REFUSED
    assert found.run.state is RunState.FINISHED
