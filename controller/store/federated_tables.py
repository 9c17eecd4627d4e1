"""What the store keeps of federated runs: the runs themselves, and what devices are asked in them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from controller.federated.exchange import PhaseRecord
from controller.federated.readiness import (
    DeviceReadiness,
    Orders,
    RunBlob,
    Standing,
    StoredCheckpoint,
)
from controller.federated.run import Run
from controller.federated.task import ArraysReference, Task, TaskState


class Runs(Protocol):
    """Runs, what came of their phases, and where they go on from."""

    def get(self, run: str) -> Run | None: ...  # noqa: D102
    def all(self, model: str | None = None) -> Sequence[Run]:
        """Of one model or of all, newest first."""
        ...

    def at_work(self) -> Sequence[Run]:
        """Those that are RUNNING or STOPPING, oldest first."""
        ...

    def put(self, run: Run) -> None:
        """Inserts or replaces."""
        ...

    def phases(self, run: str) -> Sequence[PhaseRecord]:
        """Those that are closed, in order."""
        ...

    def newest_phases(self, run: str, most: int) -> Sequence[PhaseRecord]:
        """Of those that are closed the newest, in order, without their metrics."""
        ...

    def add_phase(self, run: str, record: PhaseRecord) -> bool:
        """Writes it down once; False if one of its number is there, which stays as it is."""
        ...

    def count_late(self, run: str, step: int) -> None:
        """One reply more has come too late for the phase; nothing happens while it is not closed."""
        ...

    def checkpoint(self, run: str) -> StoredCheckpoint | None:
        """The newest; None before the first."""
        ...

    def put_checkpoint(self, run: str, checkpoint: StoredCheckpoint) -> None:
        """Takes the place of the one before."""
        ...

    def blobs(self, run: str | None = None) -> Sequence[RunBlob]:
        """Those that a run or any run has stored and not forgotten, by run and digest."""
        ...

    def put_blob(self, blob: RunBlob) -> None:
        """Inserts or replaces."""
        ...

    def remove_blobs(self, run: str, sha256s: Collection[str]) -> None:
        """The run names them no more."""
        ...

    def wanted_arrays(self) -> Collection[ArraysReference]:
        """What devices may still have to fetch: the arrays of all tasks that are POSTED, each once."""
        ...


class Tasks(Protocol):
    """What devices are asked in runs, and whether they would train at all."""

    def get(self, task: str) -> Task | None: ...  # noqa: D102
    def of_run(self, run: str, step: int | None = None) -> Sequence[Task]:
        """Of one phase or of all, by phase and node id."""
        ...

    def unsettled(self, run: str | None = None) -> Sequence[Task]:
        """Those of a run or of all that are POSTED or REPLIED, by run, phase and node id."""
        ...

    def newest_open(self, device: str) -> Task | None:
        """What the device shall do now; None if nothing."""
        ...

    def add(self, tasks: Iterable[Task]) -> None:
        """Those that are there stay as they are."""
        ...

    def put(self, task: Task) -> None:
        """Replaces it."""
        ...

    def counts(self, run: str, step: int | None = None) -> Mapping[TaskState, int]:
        """How many stand where, of one phase or of all; states of none are left out."""
        ...

    def replied(self, run: str) -> int:
        """How many replies wait to be judged."""
        ...

    def orders_since(self, revision: int) -> Orders:
        """Devices that were given a task since, or one of whose tasks ended without a reply."""
        ...

    def asked(self, device: str) -> bool:
        """Whether the device was ever given a task."""
        ...

    def remove(self, run: str, most: int) -> int:
        """Removes tasks of the run, ``most`` at once; how many."""
        ...

    def readiness(self, model: str) -> Sequence[DeviceReadiness]:
        """What devices have said last of the model, by device."""
        ...

    def standing(self, model: str, revision: int) -> Standing:
        """What has changed since then, as ``Changes.since``; what devices say is a change, too."""
        ...

    def busy(self, besides: str) -> Collection[str]:
        """Devices that have an open task of another run."""
        ...

    def replace_readiness(self, device: str, told: Iterable[DeviceReadiness]) -> None:
        """All that the device has said: it says everything at once."""
        ...
