"""One federated run of the study, from its run file to how good the model was after every round."""

import asyncio
import gc
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Final

import numpy as np

from agent.federated.layout import packed
from agent.federated.local_training import evaluate
from controller.federated.coordinator.loop import coordinate
from controller.federated.coordinator.request import arrays_of
from controller.federated.exchange import PhaseRecord
from controller.federated.run import Run, RunState
from controller.federated.run_file import stored_plan
from controller.federated.task import Phase, Task
from protos.flower import message_pb2
from simulations.federated.memory_exchange import (
    START_MS,
    Ledger,
    MemoryDevice,
    MemoryExchange,
    ledger_of,
)
from simulations.study.attack import poisoned, told_labels
from simulations.study.device import StudyDevice
from simulations.study.digits import digits, partition
from simulations.study.perceptron import MODEL, Version, version

Value = str | float | int | bool
Tables = Mapping[str, Mapping[str, Value]]

USUAL: Final[Tables] = {
    "run": {"model": f"{MODEL}/1", "rounds": 60},
    "strategy": {"fraction": 0.5},
    "round": {"over_selection": 1.0},
    "training": {"epochs": 5, "batch_size": 10, "learning_rate": 0.1},
    "admission": {"norm_ratio": 0.0},
    "evaluation": {"before": False, "after": False},
}
"""The run file of all trials: half of the devices a round, and norms compared only where that is said."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What devices are like.

    Attributes:
        partition: how the digits lie on them.
        poisoners: so many of them mean no good; ``attack`` is what they do.
        silent: the share of tasks that nobody answers: their device has dropped out.
        slow: how long a task takes: a log-normal distribution with this spread between devices, and a
            third of it from task to task; 0 is the same for all.
        median_ms: of that.
    """

    partition: str
    devices: int = 20
    poisoners: int = 0
    attack: str = ""
    silent: float = 0.0
    slow: float = 0.0
    median_ms: float = 60_000.0


@dataclass(frozen=True, slots=True)
class Trial:
    """A run: its file's tables besides the usual ones, the fleet, and what all chance comes from."""

    fleet: Fleet
    tables: Tables = field(default_factory=dict)
    seed: int = 0

    @property
    def file(self) -> str:
        """The run file."""
        lines = []
        for name in dict.fromkeys((*USUAL, *self.tables)):
            table = {**USUAL.get(name, {}), **self.tables.get(name, {})}
            if name == "run":
                table["seed"] = self.seed
            lines += [f"[{name}]", *(f"{key} = {json.dumps(one)}" for key, one in table.items())]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Course:
    """What came of a trial.

    Attributes:
        accuracies: of the global model on the test set, before the first round and after each.
        ended_ms: when each round had ended, since the beginning, by the simulated clock.
        records: of every phase, as ``muster federated show`` has them.
        error: why the run failed; empty if it did not.
        made: accuracy of what came of the run, if that is not the last global model.
    """

    accuracies: tuple[float, ...]
    ended_ms: tuple[int, ...]
    records: tuple[PhaseRecord, ...]
    error: str = ""
    made: float | None = None

    @property
    def accuracy(self) -> float:
        """Of what came of the run."""
        return self.last_accuracy if self.made is None else self.made

    @property
    def last_accuracy(self) -> float:
        """Of the last global model by itself."""
        return self.accuracies[-1]

    def rounds_to(self, accuracy: float) -> int | None:
        """After how many rounds it was as good as that; None if it never was."""
        return next((at for at, one in enumerate(self.accuracies) if one >= accuracy), None)

    def seconds_to(self, accuracy: float) -> float | None:
        """The same, in seconds of the simulated clock."""
        rounds = self.rounds_to(accuracy)
        if rounds is None:
            return None
        return self.ended_ms[rounds - 1] / 1000 if rounds else 0.0

    @property
    def seconds(self) -> float:
        """Of the whole run, by the simulated clock."""
        return self.ended_ms[-1] / 1000 if self.ended_ms else 0.0


def play(trial: Trial) -> Course:
    """Runs it to its end. The same trial gives the same course."""
    plan = stored_plan(trial.file)
    made = version(trial.seed, proximal=plan.training.proximal > 0)
    run = Run(
        id=f"{MODEL}-r1",
        number=1 + trial.seed,
        model=MODEL,
        version=1,
        manifest_sha256=made.manifest.digest,
        file=trial.file,
        state=RunState.RUNNING,
        rounds=plan.run.rounds,
        created_ms=START_MS,
        created_by="study",
    )
    ledger = ledger_of(run, [])
    with asyncio.Runner() as loop:
        for member in _members(trial, made, ledger, loop):
            ledger.devices[member.id] = member
        coordinate(MemoryExchange(ledger), lambda: made.initial)
    return _course(ledger, made)


def _members(
    trial: Trial, made: Version, ledger: Ledger, loop: asyncio.Runner
) -> Iterator[MemoryDevice]:
    data, fleet = digits(), trial.fleet
    parts = partition(fleet.partition, data.labels, fleet.devices, trial.seed)
    for number, rows in enumerate(parts):
        attack = fleet.attack if number < fleet.poisoners else ""
        device = StudyDevice(
            name=f"cam-{number:02d}",
            version=made,
            images=data.images[rows],
            labels=told_labels(attack, data.labels[rows]),
            arrays=ledger.blobs.__getitem__,
            loop=loop,
            train=poisoned(attack),
        )
        yield _member(device, trial, ledger, number)


def _member(device: StudyDevice, trial: Trial, ledger: Ledger, number: int) -> MemoryDevice:
    """The device in the run's ledger: sometimes slow, sometimes gone."""
    fleet = trial.fleet
    rng = np.random.default_rng([trial.seed, number])
    own = fleet.slow * rng.standard_normal()

    def pace() -> int:
        return round(fleet.median_ms * float(np.exp(own + fleet.slow / 3 * rng.standard_normal())))

    def answer(_: message_pb2.Message, task: Task) -> bytes | None:
        member.takes_ms = pace()  # of the next one
        if _drawn(trial.seed, task) < fleet.silent or ledger.now_ms >= task.deadline_ms:
            return None
        return device.answer(ledger.run, task, ledger.now_ms)

    member = MemoryDevice(device.name, answer, takes_ms=pace(), examples=device.examples)
    return member


def _drawn(seed: int, task: Task) -> float:
    """From 0 to 1, of the task: so that it is the same whoever else is asked."""
    digest = hashlib.sha256(f"{seed} {task.id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _course(ledger: Ledger, made: Version) -> Course:
    # A task brings the parameters that the round before has made.
    made_by = {
        task.round - 1: task.arrays[0].sha256
        for task in ledger.tasks.values()
        if task.phase is Phase.TRAIN
    }
    if ledger.checkpoint is not None:
        made_by[ledger.run.round] = ledger.checkpoint.arrays_sha256
    final = ledger.blobs.get(ledger.final_sha256)
    rounds = range(ledger.run.round + 1)
    known = [max(one for one in made_by if one <= at) for at in rounds]
    ended = {one.round: one.ended_ms - START_MS for one in ledger.phases}
    return Course(
        accuracies=tuple(_accuracy(ledger.blobs[made_by[at]], made) for at in known),
        ended_ms=tuple(ended[at] for at in rounds[1:]),
        records=tuple(ledger.phases),
        error=ledger.run.error,
        made=None if final is None else _accuracy(final, made),
    )


def _accuracy(record: bytes, made: Version) -> float:
    data = digits()
    rows = packed(made.layout, {"image": data.test_images}, data.test_labels)
    return evaluate(made.step, arrays_of(record), rows).accuracy or 0.0


def courses(
    trials: Sequence[Trial], workers: int, way: Callable[[Trial], Course] = play
) -> Iterator[Course]:
    """What comes of each, in order; in so many processes beside this one, in this one if in none."""
    if not workers:
        yield from map(way, trials)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begun) as pool:
        yield from pool.map(way, trials)


def _begun() -> None:
    """In a process of its own: what is imported is garbage never, and Bulyan looks eight times a round."""
    quiet()
    gc.freeze()


def quiet() -> None:
    """A run that fails is in its figures; nobody has to be told on the way."""
    logging.getLogger("controller.federated").setLevel(logging.ERROR)
