"""Every run that goes on has a coordinator, and no other has one."""

import asyncio
import threading
from dataclasses import replace

import pytest

from controller.candidate.errors import Interrupted
from controller.errors import Conflict, StoreError
from controller.federated.errors import FlowerMissing
from controller.federated.run import Run, RunState
from controller.federated.supervision.actions import Made
from controller.federated.supervision.attempts import (
    LONGEST_SECONDS,
    MOST_FUTILE,
    Attempts,
    died,
)
from controller.federated.supervision.loop import LEASE, MOST_TRIES, RunLoop
from controller.federated.task import TaskState
from simulations.federated.memory_coordinators import MemoryCoordinator, MemoryCoordinators
from simulations.memory_store import MemoryStore
from tests.contracts.federated_values import PHASE, RUN, TASK
from tests.controller.rollout.world import HandClock


class Supervised:
    """A loop over a store with one run."""

    def __init__(self, holder: str = "one", store: MemoryStore | None = None) -> None:
        self.clock = HandClock()
        self.store = store or MemoryStore()
        self.coordinators = MemoryCoordinators()
        self.told = 0
        self.finished: list[Run] = []
        self.answer: Made | Exception = Made(4)
        self.free = threading.Event()  # what is made may be done
        self.free.set()
        self.given_up = False
        self.loop = RunLoop(
            self.store,
            self.coordinators,
            self.clock,
            self._tell,
            self._finish,
            holder,
            give_up=self._give_up,
        )

    def _tell(self) -> None:
        self.told += 1

    def _finish(self, run: Run) -> Made:
        self.finished.append(run)
        self.free.wait()
        if self.given_up:
            raise Interrupted("it was ended")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _give_up(self) -> None:
        self.given_up = True
        self.free.set()

    async def turn(self) -> None:
        """One look, and all that it has begun to hand on is through."""
        await self.loop.turn()
        task = self.loop._handing.task
        if task is not None:
            await task

    def put(self, state: RunState, **changes: object) -> None:
        with self.store.begin() as tx:
            tx.runs.put(replace(RUN, state=state, **changes))  # type: ignore[arg-type]

    def run(self) -> Run:
        with self.store.read() as tx:
            found = tx.runs.get(RUN.id)
        assert found is not None
        return found

    @property
    def alive(self) -> list[MemoryCoordinator]:
        return [one for one in self.coordinators.started if one.alive]

    async def die(self, status: int = -9) -> None:
        """The coordinator ends, and the loop has seen that."""
        (work,) = self.loop._working.values()
        self.alive[0].end(status)
        await work.watch


@pytest.fixture
def supervised() -> Supervised:
    return Supervised()


async def test_a_run_gets_one_coordinator(supervised: Supervised) -> None:
    await supervised.loop.turn()
    assert supervised.coordinators.started == []
    supervised.put(RunState.RUNNING)

    await supervised.loop.turn()
    await supervised.loop.turn()

    (one,) = supervised.coordinators.started
    assert (one.run, one.alive) == (RUN.id, True)
    supervised.loop.replied(RUN.id)
    supervised.loop.replied("digits-r9")
    assert one.woken == 1
    one.tell()
    assert supervised.told == 1
    await supervised.loop.end()
    assert not one.alive


async def test_one_that_died_is_started_again_a_little_later(supervised: Supervised) -> None:
    supervised.put(RunState.RUNNING)
    await supervised.loop.turn()
    await supervised.die()

    pause = await supervised.loop.turn()
    assert supervised.alive == []
    assert 0 < pause <= 0.5
    supervised.clock.at += pause
    await supervised.loop.turn()

    assert len(supervised.alive) == 1
    assert supervised.run().state is RunState.RUNNING
    await supervised.loop.end()


async def test_one_that_makes_no_progress_is_given_up(supervised: Supervised) -> None:
    supervised.put(RunState.RUNNING)
    for _ in range(MOST_FUTILE + 1):
        await supervised.loop.turn()
        await supervised.die(1)
        supervised.clock.at += LONGEST_SECONDS
    await supervised.loop.turn()

    assert supervised.alive == []
    assert supervised.run().state is RunState.FAILED
    assert "died 9 times in a row: see digits-r1.log" in supervised.run().error


async def test_a_run_that_nothing_here_can_coordinate_says_what_to_install(
    supervised: Supervised,
) -> None:
    supervised.coordinators.failure = FlowerMissing("no Flower here")
    supervised.put(RunState.RUNNING)

    await supervised.loop.turn()

    assert supervised.run().state is RunState.FAILED
    assert "pip install 'muster[federated]'" in supervised.run().error


async def test_a_process_that_can_not_be_had_is_tried_again(supervised: Supervised) -> None:
    supervised.coordinators.failure = StoreError("no process can be started")
    supervised.put(RunState.RUNNING)
    with pytest.raises(StoreError):
        await supervised.loop.turn()
    supervised.coordinators.failure = None

    await supervised.loop.turn()

    assert len(supervised.alive) == 1
    await supervised.loop.end()


async def test_a_run_that_is_stopped_loses_its_coordinator_and_its_tasks(
    supervised: Supervised,
) -> None:
    supervised.put(RunState.RUNNING)
    await supervised.loop.turn()
    with supervised.store.begin() as tx:
        tx.tasks.add([TASK])
    supervised.put(RunState.STOPPING)

    await supervised.loop.turn()
    assert supervised.alive[0].woken == 1
    await supervised.die(0)
    await supervised.loop.turn()

    assert supervised.run().state is RunState.STOPPED
    assert supervised.told > 0
    with supervised.store.read() as tx:
        assert [one.state for one in tx.tasks.of_run(RUN.id)] == [TaskState.SILENT]


async def test_one_that_does_not_end_when_asked_is_ended(supervised: Supervised) -> None:
    supervised.put(RunState.RUNNING)
    await supervised.loop.turn()
    supervised.put(RunState.STOPPING)
    await supervised.loop.turn()
    supervised.clock.at += 11.0
    (work,) = supervised.loop._working.values()

    await supervised.loop.turn()
    await work.watch
    await supervised.loop.turn()

    assert supervised.run().state is RunState.STOPPED


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.FINISHED])
async def test_what_is_at_its_end_has_no_coordinator(
    supervised: Supervised, state: RunState
) -> None:
    supervised.put(RunState.RUNNING)
    await supervised.loop.turn()
    supervised.put(state)
    (work,) = supervised.loop._working.values()

    await supervised.loop.turn()
    await work.watch

    assert supervised.alive == []
    assert supervised.run().state is state


async def test_what_came_of_a_finished_run_is_handed_on_once(supervised: Supervised) -> None:
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64)

    await supervised.turn()
    await supervised.turn()

    assert [one.id for one in supervised.finished] == [RUN.id]
    assert (supervised.run().candidate, supervised.run().error) == (4, "")


async def test_a_version_that_a_gate_has_rejected_is_named_with_its_reasons(
    supervised: Supervised,
) -> None:
    supervised.answer = Made(4, "rejected: accuracy is 0.5")
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64)

    await supervised.turn()

    run = supervised.run()
    assert (run.candidate, run.error) == (4, "rejected: accuracy is 0.5")


async def test_a_failure_of_our_own_is_tried_once_and_weather_again(
    supervised: Supervised,
) -> None:
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64)
    supervised.answer = StoreError("the disk is on fire")
    for _ in range(2):
        await supervised.turn()
        assert supervised.run().error == ""
    supervised.answer = ZeroDivisionError("oh")
    await supervised.turn()
    await supervised.turn()

    assert len(supervised.finished) == 3
    assert "ZeroDivisionError while its version was made" in supervised.run().error


async def test_what_can_not_be_registered_is_said(supervised: Supervised) -> None:
    supervised.answer = Conflict("accuracy is 0.5; 0.9 at least")
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64)

    await supervised.turn()
    await supervised.turn()

    assert len(supervised.finished) == 1
    assert supervised.run().state is RunState.FINISHED
    assert supervised.run().error == "accuracy is 0.5; 0.9 at least"


async def test_nothing_is_registered_of_a_run_that_does_not_want_it(
    supervised: Supervised,
) -> None:
    file = '[run]\nmodel = "digits/3"\n[candidate]\nregistered = false\n'
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64, file=file)

    await supervised.turn()

    assert supervised.finished == []


async def test_a_version_whose_process_goes_down_is_tried_again_and_at_last_given_up(
    supervised: Supervised,
) -> None:
    supervised.answer = Interrupted("its process ended with SIGKILL")
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64)
    for count in range(1, MOST_TRIES):
        await supervised.turn()
        assert (len(supervised.finished), supervised.run().error) == (count, "")
    await supervised.turn()
    await supervised.turn()

    assert len(supervised.finished) == MOST_TRIES
    assert supervised.run().error == "its process ended with SIGKILL, 3 times"


async def test_a_version_that_can_not_be_made_yet_holds_no_other_up(
    supervised: Supervised,
) -> None:
    supervised.answer = StoreError("its parent can't be read")
    for number in (1, 2):
        name = f"digits-r{number}"
        supervised.put(RunState.FINISHED, arrays_sha256="a" * 64, id=name, number=number)

    for _ in range(4):
        await supervised.turn()
    assert sorted(one.id for one in supervised.finished) == ["digits-r1"] * 2 + ["digits-r2"] * 2

    supervised.answer = Interrupted("its process ended with SIGKILL")
    for _ in range(2):
        await supervised.turn()
    assert supervised.run().error == ""  # only those that went down are given up


async def test_while_a_version_is_made_the_loop_attends_to_other_runs(
    supervised: Supervised,
) -> None:
    supervised.free.clear()
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64)
    await supervised.loop.turn()
    with supervised.store.begin() as tx:
        tx.runs.put(replace(RUN, id="digits-r2", number=2))

    await supervised.loop.turn()

    assert [one.run for one in supervised.alive] == ["digits-r2"]
    assert supervised.run().candidate is None
    supervised.free.set()
    await supervised.turn()
    assert supervised.run().candidate == 4
    await supervised.loop.end()


async def test_a_controller_that_ends_gives_up_what_is_made_and_the_next_makes_it(
    supervised: Supervised,
) -> None:
    supervised.free.clear()
    supervised.put(RunState.FINISHED, arrays_sha256="a" * 64)
    await supervised.loop.turn()

    await supervised.loop.end()
    await supervised.turn()
    assert (len(supervised.finished), supervised.run().error) == (1, "")

    after = Supervised(store=supervised.store)
    await after.turn()
    assert (after.run().candidate, after.run().error) == (4, "")


async def test_of_two_controllers_one_has_the_coordinators(supervised: Supervised) -> None:
    supervised.put(RunState.RUNNING)
    other = Supervised("two", supervised.store)
    await supervised.loop.turn()
    await other.loop.turn()
    assert (len(supervised.alive), len(other.alive)) == (1, 0)

    await supervised.loop.end()
    await other.loop.turn()
    assert (len(supervised.alive), len(other.alive)) == (0, 1)
    await other.loop.end()


async def test_a_controller_that_has_lost_the_right_ends_its_coordinators(
    supervised: Supervised,
) -> None:
    supervised.put(RunState.RUNNING)
    await supervised.loop.turn()
    (work,) = supervised.loop._working.values()
    with supervised.store.begin() as tx:
        tx.leases.release(LEASE, "one")
        assert tx.leases.acquire(LEASE, "two", supervised.clock.now().timestamp(), 30.0)

    await supervised.loop.turn()
    await work.watch

    assert supervised.alive == []


async def test_the_loop_ends_its_coordinators_with_itself(supervised: Supervised) -> None:
    supervised.put(RunState.RUNNING)
    running = asyncio.create_task(supervised.loop.run())
    async with asyncio.timeout(10):
        await supervised.clock.asleep.wait()  # after the first turn
        assert len(supervised.alive) == 1
        running.cancel()
        await asyncio.wait([running])

    assert supervised.alive == []


def test_waits_grow_until_a_phase_is_closed() -> None:
    attempts, waits = Attempts(), []
    for _ in range(MOST_FUTILE + 1):
        assert not attempts.given_up
        attempts = died(attempts, 0, 100.0)
        waits.append(attempts.due - 100.0)
    assert attempts.given_up
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == LONGEST_SECONDS
    assert died(attempts, PHASE.step, 100.0) == Attempts(1, PHASE.step, 100.5)
