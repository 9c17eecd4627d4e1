"""Federated runs, and what devices are asked in them, in memory."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from controller.federated.exchange import PhaseRecord
from controller.federated.readiness import (
    DeviceReadiness,
    Orders,
    RunBlob,
    Standing,
    StoredCheckpoint,
)
from controller.federated.run import Run, RunState
from controller.federated.task import OPEN, UNSETTLED, ArraysReference, Task, TaskState
from simulations.memory_store.fleet import MemoryDevices
from simulations.memory_store.journal import Journal
from simulations.memory_store.noted import Noted


class MemoryRuns:
    """``controller.store.federated_tables.Runs``."""

    def __init__(self, journal: Journal, tasks: "MemoryTasks") -> None:
        self._journal = journal
        self._tasks = tasks
        self._runs: dict[str, Run] = {}
        self._phases: dict[tuple[str, int], PhaseRecord] = {}
        self._checkpoints: dict[str, StoredCheckpoint] = {}
        self._blobs: dict[tuple[str, str], RunBlob] = {}

    def get(self, run: str) -> Run | None:  # noqa: D102 - see the Protocol
        return self._runs.get(run)

    def all(self, model: str | None = None) -> Sequence[Run]:  # noqa: D102
        found = [one for one in self._runs.values() if model in (None, one.model)]
        return sorted(found, key=_age, reverse=True)

    def at_work(self) -> Sequence[Run]:  # noqa: D102
        states = (RunState.RUNNING, RunState.STOPPING)
        return sorted((one for one in self._runs.values() if one.state in states), key=_age)

    def put(self, run: Run) -> None:  # noqa: D102
        self._journal.put(self._runs, run.id, run)

    def phases(self, run: str) -> Sequence[PhaseRecord]:  # noqa: D102
        found = [one for (of, _), one in self._phases.items() if of == run]
        return sorted(found, key=lambda one: one.step)

    def newest_phases(self, run: str, most: int) -> Sequence[PhaseRecord]:  # noqa: D102
        return [replace(one, metrics={}) for one in self.phases(run)[-most:]]

    def add_phase(self, run: str, record: PhaseRecord) -> bool:  # noqa: D102
        if (run, record.step) in self._phases:
            return False
        kept = replace(record, reasons=dict(record.reasons), metrics=dict(record.metrics))
        self._journal.put(self._phases, (run, record.step), kept)
        return True

    def count_late(self, run: str, step: int) -> None:  # noqa: D102
        known = self._phases.get((run, step))
        if known is not None:
            self._journal.put(self._phases, (run, step), replace(known, late=known.late + 1))

    def checkpoint(self, run: str) -> StoredCheckpoint | None:  # noqa: D102
        return self._checkpoints.get(run)

    def put_checkpoint(self, run: str, checkpoint: StoredCheckpoint) -> None:  # noqa: D102
        self._journal.put(self._checkpoints, run, checkpoint)

    def blobs(self, run: str | None = None) -> Sequence[RunBlob]:  # noqa: D102
        found = [one for one in self._blobs.values() if run in (None, one.run)]
        return sorted(found, key=lambda one: (one.run, one.sha256))

    def put_blob(self, blob: RunBlob) -> None:  # noqa: D102
        self._journal.put(self._blobs, (blob.run, blob.sha256), blob)

    def remove_blobs(self, run: str, sha256s: Collection[str]) -> None:  # noqa: D102
        for one in sha256s:
            self._journal.remove(self._blobs, (run, one))

    def wanted_arrays(self) -> Collection[ArraysReference]:  # noqa: D102
        tasks = [one for one in self._tasks.unsettled() if one.state in OPEN]
        return {array for one in tasks for array in one.arrays}


class MemoryTasks:
    """``controller.store.federated_tables.Tasks``."""

    def __init__(self, journal: Journal, noted: Noted, devices: MemoryDevices) -> None:
        self._journal = journal
        self._noted = noted
        self._devices = devices
        self._tasks: dict[str, Task] = {}
        self._readiness: dict[str, tuple[DeviceReadiness, ...]] = {}
        self._orders = Noted()

    def get(self, task: str) -> Task | None:  # noqa: D102 - see the Protocol
        return self._tasks.get(task)

    def of_run(self, run: str, step: int | None = None) -> Sequence[Task]:  # noqa: D102
        found = [one for one in self._tasks.values() if one.run == run]
        return sorted((one for one in found if step in (None, one.step)), key=_place)

    def unsettled(self, run: str | None = None) -> Sequence[Task]:  # noqa: D102
        found = [one for one in self._tasks.values() if one.state in UNSETTLED]
        return sorted((one for one in found if run in (None, one.run)), key=_place)

    def newest_open(self, device: str) -> Task | None:  # noqa: D102
        found = [one for one in self.unsettled() if one.device == device and one.state in OPEN]
        return max(found, key=lambda one: (one.posted_ms, one.step, one.run), default=None)

    def add(self, tasks: Iterable[Task]) -> None:  # noqa: D102
        for one in tasks:
            if one.id not in self._tasks:
                self._journal.put(self._tasks, one.id, one)
            self._orders.note(one.device)

    def put(self, task: Task) -> None:  # noqa: D102
        self._journal.put(self._tasks, task.id, task)
        if task.state is TaskState.SILENT:
            self._orders.note(task.device)

    def counts(self, run: str, step: int | None = None) -> Mapping[TaskState, int]:  # noqa: D102
        return dict(Counter(one.state for one in self.of_run(run, step)))

    def replied(self, run: str) -> int:  # noqa: D102
        return sum(one.state is TaskState.REPLIED for one in self.unsettled(run))

    def orders_since(self, revision: int) -> Orders:  # noqa: D102
        return Orders(tuple(sorted(self._orders.since(revision))), self._orders.revision)

    def asked(self, device: str) -> bool:  # noqa: D102
        return device in self._orders.since(0)

    def remove(self, run: str, most: int) -> int:  # noqa: D102
        gone = self.of_run(run)[:most]
        for one in gone:
            self._journal.remove(self._tasks, one.id)
        return len(gone)

    def readiness(self, model: str) -> Sequence[DeviceReadiness]:  # noqa: D102
        found = [one for told in self._readiness.values() for one in told if one.model == model]
        return sorted(found, key=lambda one: one.device)

    def replace_readiness(self, device: str, told: Iterable[DeviceReadiness]) -> None:  # noqa: D102
        self._journal.put(self._readiness, device, tuple(told))
        self._noted.note(device)

    def standing(self, model: str, revision: int) -> Standing:  # noqa: D102
        ids = self._noted.since(revision)
        told = [said for one in ids for said in self._readiness.get(one, ()) if said.model == model]
        devices = [known for one in told if (known := self._devices.get(one.device)) is not None]
        return Standing(ids, devices, told, self._noted.revision)

    def busy(self, besides: str) -> Collection[str]:  # noqa: D102
        return {one.device for one in self.unsettled() if one.state in OPEN and one.run != besides}


def _age(run: Run) -> tuple[int, str]:
    return run.created_ms, run.id


def _place(task: Task) -> tuple[str, int, int]:
    return task.run, task.step, task.node
