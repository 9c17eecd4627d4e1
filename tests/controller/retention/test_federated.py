"""What federated runs leave behind is removed, and nothing that they still need."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.federated.intake.piece import Piece
from controller.federated.readiness import RunBlob, StoredCheckpoint
from controller.federated.run import Run, RunState
from controller.federated.task import ArraysReference, Task, TaskState
from controller.retention.actions import sweep_blobs
from controller.retention.loop import RetentionLoop
from simulations.federated.memory_replies import MemoryReplies
from simulations.memory_controller_blobs import MemoryControllerBlobs
from simulations.memory_store import MemoryStore
from tests.contracts.federated_values import RUN, TASK
from tests.controller.rollout.world import START, HandClock

LONG_AGO = int(START * 1000) - 10**9


class Kept:
    """A store with runs, and what they have stored long ago."""

    def __init__(self) -> None:
        self.store, self.blobs, self.replies = (
            MemoryStore(),
            MemoryControllerBlobs(),
            MemoryReplies(),
        )
        clock = HandClock()
        self.loop = RetentionLoop(
            self.store, self.blobs, clock, timedelta(days=1), replies=self.replies
        )

    def run(self, name: str, state: RunState, app: str = "") -> dict[str, str]:
        """A run with a checkpoint, an open task, a closed task and what is spent."""
        names = ("spent", "arrays", "state", "final", "open", "closed")
        digests = {what: self.blobs.put(f"{name} {what}".encode()) for what in names}
        for sha256 in digests.values():
            self.blobs._stored_at[sha256] = LONG_AGO / 1000
        run = replace(RUN, id=name, state=state, app=app, ended_ms=LONG_AGO)
        if state is RunState.FINISHED:
            run = replace(run, arrays_sha256=digests["final"])
        with self.store.begin() as tx:
            tx.runs.put(run)
            tx.runs.put_checkpoint(
                name, StoredCheckpoint(1, 1, digests["arrays"], digests["state"])
            )
            for sha256 in digests.values():
                tx.runs.put_blob(RunBlob(name, sha256, LONG_AGO))
            if state is RunState.RUNNING:
                tx.tasks.add([self.task(run, 2, TaskState.POSTED, digests["open"])])
            tx.tasks.add([self.task(run, 1, TaskState.ADMITTED, digests["closed"])])
        return digests

    def task(self, run: Run, step: int, state: TaskState, arrays: str) -> Task:
        name = f"{run.id}-{step}"
        self.replies.add(Piece(name, hashlib.sha256(b"reply").hexdigest(), 5, 0, b"reply"))
        references = (ArraysReference("arrays", arrays, 1),)
        return replace(TASK, id=name, run=run.id, step=step, state=state, arrays=references)

    def left(self, digests: dict[str, str]) -> set[str]:
        return {what for what, sha256 in digests.items() if self.blobs.has(sha256)}


@pytest.fixture
def kept() -> Kept:
    return Kept()


async def test_a_run_at_work_keeps_what_it_goes_on_from(kept: Kept) -> None:
    digests = kept.run("digits-r1", RunState.RUNNING)
    await kept.loop.turn()

    assert kept.left(digests) == {"arrays", "state", "open"}
    assert kept.replies.tasks() == {"digits-r1-2"}
    with kept.store.read() as tx:
        assert len(tx.tasks.of_run("digits-r1")) == 2


async def test_a_run_that_can_be_resumed_keeps_its_checkpoint(kept: Kept) -> None:
    digests = kept.run("digits-r1", RunState.FAILED)
    await kept.loop.turn()

    assert kept.left(digests) == {"arrays", "state"}
    assert kept.replies.tasks() == set()


async def test_a_finished_run_keeps_its_parameters(kept: Kept) -> None:
    digests = kept.run("digits-r1", RunState.FINISHED, "my:app")
    with kept.store.begin() as tx:
        tx.runs.put(replace(RUN, id="faces-r1", state=RunState.FINISHED, ended_ms=2**60))
        tx.tasks.add([replace(TASK, run="faces-r1", state=TaskState.ADMITTED)])
    await kept.loop.turn()

    assert kept.left(digests) == {"final"}
    assert kept.replies.tasks() == set()
    with kept.store.read() as tx:
        assert list(tx.tasks.of_run("digits-r1")) == []
        assert len(tx.tasks.of_run("faces-r1")) == 1


async def test_a_users_own_app_that_has_not_finished_keeps_its_journal(kept: Kept) -> None:
    digests = kept.run("digits-r1", RunState.STOPPED, "my:app")
    await kept.loop.turn()

    assert kept.left(digests) == set(digests)
    assert kept.replies.tasks() == {"digits-r1-1"}


async def test_a_blob_that_another_run_names_stays(kept: Kept) -> None:
    digests = kept.run("digits-r1", RunState.RUNNING)
    with kept.store.begin() as tx:
        tx.runs.put(replace(RUN, id="digits-r2", app="my:app"))
        tx.runs.put_blob(RunBlob("digits-r2", digests["spent"], LONG_AGO))
    await kept.loop.turn()

    assert kept.left(digests) == {"arrays", "state", "open", "spent"}


def test_blobs_that_runs_name_are_not_swept(kept: Kept) -> None:
    digests = kept.run("digits-r1", RunState.RUNNING)
    loose = kept.blobs.put(b"loose")
    kept.blobs._stored_at[loose] = 0.0

    assert list(sweep_blobs(kept.store, kept.blobs, START)) == [1]
    assert kept.left(digests) == set(digests)
