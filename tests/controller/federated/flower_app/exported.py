"""A small run as an app of Flower's, examples for its clients, and the same run on our own channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.federated.order import config_of
from agent.federated.reply import train_reply
from agent.federated.step_file import read_step
from agent.federated.update import as_floats
from agent.runtimes.train_step import OnnxTrainStep
from controller.candidate.model import parameters_of
from controller.federated.coordinator.driver import Driver
from controller.federated.coordinator.flower import strategy_of
from controller.federated.coordinator.request import arrays_of, written_arrays
from controller.federated.flower_app.actions import write_folder
from controller.federated.flower_app.folder import files_of
from controller.federated.flower_app.learning import examples_in, learnt, plan_asked
from controller.federated.plan import Plan
from controller.federated.run import Run, RunState
from controller.federated.run_file import read_plan
from controller.federated.task import Task
from protos.flower import message_pb2
from protos.manifest import Role
from simulations.federated.memory_exchange import MemoryDevice, MemoryExchange, ledger_of
from tests.agent.federated.learners import classifier, clouds

LEARNER = classifier(proximal=True)
FILES = {Role.MODEL: LEARNER.model, Role.TRAIN_STEP: LEARNER.step}

Arrays = dict[str, NDArray[Any]]


def run_file(strategy: str = 'name = "FedAvg"', rounds: int = 2, **lines: str) -> str:
    """One batch of all examples, so that the seed of a shuffle moves the last bit at most."""
    return f"""
[run]
model = "learner/1"
rounds = {rounds}
[strategy]
{strategy}
[round]
over_selection = 1.0
{lines.get("round", "")}
[training]
epochs = 3
batch_size = 1000
learning_rate = 0.5
{lines.get("training", "")}
[update]
encoding = "float32"
[evaluation]
before = false
after = {lines.get("after", "false")}
"""


def plan_of(text: str) -> Plan:
    return read_plan(text, "run.toml")


def export(folder: Path, text: str) -> Path:
    """The app's package, in a folder with all that it needs."""
    signed = LEARNER.manifest.encode()
    write_folder(folder, files_of(LEARNER.manifest, signed, FILES, plan_of(text), text))
    return folder / "muster_app"


def own(client: int) -> Arrays:
    """A client's examples."""
    x, y = clouds(60 + 10 * client, seed=client + 1)
    return {"x": x, "y": y}


@dataclass
class Device:
    """Learns as the app's clients do, and answers as devices do."""

    arrays: Arrays

    def __call__(self, message: message_pb2.Message, task: Task) -> bytes:
        record = next(item for item in message.content.items if item.HasField("array_record"))
        before = arrays_of(record.array_record.SerializeToString(deterministic=True))
        found = examples_in(self.arrays, LEARNER.layout)
        step = OnnxTrainStep(LEARNER.step, read_step(LEARNER.step))
        plan = plan_asked(config_of(message), task.id)
        result = learnt(step, before, found, plan, np.random.default_rng(plan.seed))
        update = as_floats(before, result.parameters)
        return train_reply(message, "arrays", update.record, result)


def on_our_channel(text: str, clients: Sequence[Arrays]) -> Arrays:
    """The parameters that the run comes to with our own coordinator."""
    plan = plan_of(text)
    run = Run(
        id="learner-r1",
        number=77,
        model="learner",
        version=1,
        manifest_sha256="0" * 64,
        file="",
        state=RunState.RUNNING,
        rounds=plan.run.rounds,
        created_ms=0,
        created_by="ada",
    )
    devices = [MemoryDevice(f"d-{at}", Device(one)) for at, one in enumerate(clients)]
    ledger = ledger_of(run, devices)
    initial = written_arrays(LEARNER.parameters)
    Driver(MemoryExchange(ledger), plan, strategy_of(plan, run.number), initial).drive()
    return dict(arrays_of(ledger.blobs[ledger.final_sha256]))


def trained(path: Path) -> Arrays:
    """The parameters in the model that the ServerApp has written."""
    shapes = {name: array.shape for name, array in LEARNER.parameters.items()}
    return dict(parameters_of(path.read_bytes(), shapes))


def furthest(one: Arrays, other: Arrays) -> float:
    """The largest difference of two numbers."""
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)
