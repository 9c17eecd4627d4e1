"""Everything that a controller does for federated runs, as one: built here, and started by ``app``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.clock import Clock
from controller.candidate.actions import Means, Preparing, register_candidate
from controller.candidate.gates import WORSE_BY, candidate_gates
from controller.candidate.trained import NOBODY, Float32s, Trained
from controller.desk import DeviceDesk
from controller.federated.coordinator.request import arrays_of
from controller.federated.evaluation_told import evaluation_of
from controller.federated.exchange import PhaseRecord
from controller.federated.intake.actions import Intake
from controller.federated.run import Run
from controller.federated.run_file import stored_plan
from controller.federated.supervision.actions import Made
from controller.federated.supervision.loop import RunLoop
from controller.federated.task import Phase, Task, TaskState
from controller.federated.telling.loop import OrderLoop
from controller.home import Home
from controller.registry.gates import AllOf, Candidate, Gate
from controller.registry.version import State
from controller.runtimes.candidates import ProcessCandidates
from controller.runtimes.coordinators import CoordinatorProcesses
from controller.store.blob_store import BlobStore
from controller.store.reply_folder import ReplyFolder
from controller.store.store import Store
from controller.transport.courier import Courier

BEFORE: Final = 0
"""The round of the evaluation of the parent."""

SHARE: Final = 0.5
"""Of the devices that told of the parent: so many must have told of what came of it, too."""


class Federation:
    """Intake, telling and supervision over one store."""

    def __init__(
        self,
        home: Home,
        store: Store,
        blobs: BlobStore,
        clock: Clock,
        courier: Courier,
        holder: str,
    ) -> None:
        """Raises ``StoreError`` where the folder of replies can't be made."""
        self.replies = ReplyFolder.open(home.replies)
        self.orders = OrderLoop(store, courier, clock)
        processes = CoordinatorProcesses(home.path, home.federated)
        preparing = ProcessCandidates()
        finished = Candidates(store, blobs, preparing, clock)
        self.runs = RunLoop(
            store, processes, clock, self.orders.wake, finished, holder, give_up=preparing.end
        )
        self._intake = Intake(store, self.replies, self.runs.replied)

    def attend(self, desk: DeviceDesk) -> None:
        """From here on devices are answered; before any transport is started."""
        desk.federated.intake = self._intake
        desk.federated.orders = self.orders


@dataclass(frozen=True, slots=True)
class Candidates:
    """Makes versions of what runs have brought: ``supervision.actions.Finished``."""

    store: Store
    blobs: BlobStore
    preparing: Preparing
    clock: Clock

    def __call__(self, run: Run) -> Made:
        """The version; if a gate has rejected it, with its reasons.

        Raises:
            ControllerError: there can be none.
        """
        with self.store.read() as tx:
            phases, tasks = tx.runs.phases(run.id), tx.tasks.of_run(run.id)
        arrays = arrays_of(b"".join(self.blobs.read(run.arrays_sha256)))
        brought = trained(run, phases, tasks, arrays)
        means = Means(self.store, self.blobs, self.preparing, run.number)
        registered = register_candidate(
            means,
            f"{run.model}/{run.version}",
            brought,
            run.created_by,
            self.clock.now().timestamp(),
            gates=gates_of(run, brought),
            since_ms=run.created_ms,
        )
        made = registered.version
        rejected = made.state is State.REJECTED
        return Made(made.version, f"rejected: {'; '.join(made.reasons)}" if rejected else "")


def trained(
    run: Run,
    phases: Sequence[PhaseRecord],
    tasks: Sequence[Task],
    arrays: Mapping[str, Float32s],
) -> Trained:
    """What the run has brought, as far as its phases tell.

    Nothing is known of the parent where fewer than ``SHARE`` of those that told of it have told of what
    came of it: the two would be of different devices, and silence would decide.
    """
    told = [one for one in phases if one.phase is Phase.EVALUATE and one.admitted]
    before = next((one for one in told if one.round == BEFORE), None)
    after = next((one for one in reversed(told) if one.round == run.round), None)
    if before and after and not _of_the_same(tasks, before.step, after.step):
        before = None
    devices = {
        one.device for one in tasks if one.phase is Phase.TRAIN and one.state is TaskState.ADMITTED
    }
    return Trained(
        run=run.id,
        round=run.round,
        parameters=arrays,
        devices=len(devices),
        evaluated=after.admitted if after else 0,
        before=evaluation_of(before.metrics) if before else NOBODY,
        after=evaluation_of(after.metrics) if after else NOBODY,
    )


def _of_the_same(tasks: Sequence[Task], before: int, after: int) -> bool:
    """Whether enough of those that counted in the first step counted in the other, too."""
    told = [one for one in tasks if one.phase is Phase.EVALUATE and one.state is TaskState.ADMITTED]
    first, last = ({one.node for one in told if one.step == step} for step in (before, after))
    return len(first & last) >= SHARE * len(first)


@dataclass(frozen=True, slots=True)
class ParentKnown:
    """Devices have told how good the parent is: else there is nothing to be compared with."""

    examples: int

    def objections(self, candidate: Candidate) -> Sequence[str]:
        """One, if they have not."""
        if self.examples:
            return ()
        parent = candidate.parent or "its parent"
        why = f"too few devices told how good {parent} is, or too few of these of what came of it"
        remedy = "run it again when more are ready, or without comparing: evaluation.before = false"
        return (f"{why}; {remedy}",)


def gates_of(run: Run, brought: Trained) -> Gate:
    """What must be true of a candidate that the run has brought."""
    plan = stored_plan(run.file)
    wanted = plan.candidate
    worse_by = WORSE_BY if wanted.most_worse is None else wanted.most_worse
    gates = candidate_gates({**wanted.at_least, **wanted.at_most}, worse_by)
    return AllOf((gates, ParentKnown(brought.before.examples))) if plan.evaluation.before else gates
