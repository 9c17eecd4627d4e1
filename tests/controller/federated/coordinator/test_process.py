"""Real coordinators over a controller's folder, killed with a signal at different moments."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from controller.federated.intake.actions import Intake
from controller.federated.readiness import DeviceReadiness
from controller.federated.run import Run, RunState
from controller.federated.task import OPEN, Task
from controller.home import Home
from controller.registry.version import Model
from controller.store.blob_folder import BlobFolder
from controller.store.reply_folder import ReplyFolder
from controller.store.sql import SqlStore
from protos.flower import message_pb2
from protos.manifest import File, Role
from protos.train_step import METADATA_KEY, Loss, Optimizer, Parameter, TrainStepSpec
from protos.v1 import federated_pb2
from tests.contracts.federated_place import now_ms
from tests.contracts.stored import DEVICE
from tests.controller.federated.coordinator.pretend import CLASSES, FEATURES, Learner, run
from tests.controller.rollout.world import START, manifest, registered

ROOT = Path(__file__).resolve().parents[4]
NAMES = ("cam-1", "cam-2", "cam-3")
FILE = """
[run]
model = "digits/3"
rounds = 2
[strategy]
name = "FedAdam"
eta = 0.05
[evaluation]
before = false
after = false
"""
FORKS = """
import os, signal
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    if os.fork() == 0:  # as a pool of workers
        os.open({!r}, os.O_WRONLY)
    signal.pause()
"""


@dataclass
class Folder:
    """A controller's folder with a run at work, and its devices."""

    home: Home
    store: SqlStore
    intake: Intake
    learners: dict[str, Learner]

    def answer(self, most: int = 100) -> None:
        """Devices reply to what they are asked; so many of them."""
        with self.store.read() as tx:
            tasks = [task for task in tx.tasks.unsettled() if task.state in OPEN][:most]
        for task in tasks:
            reply = self.learners[task.device](self._whole(task), task)
            piece = federated_pb2.ReplyPiece(
                task_id=task.id,
                sha256=hashlib.sha256(reply).hexdigest(),
                length=len(reply),
                data=reply,
            )
            self.intake.reply(task.device, piece.SerializeToString(), now_ms)

    def _whole(self, task: Task) -> message_pb2.Message:
        message = message_pb2.Message.FromString(task.message)
        blobs = BlobFolder.open(self.home.blobs)
        for reference in task.arrays:
            data = b"".join(blobs.read(reference.sha256))
            record = message_pb2.ArrayRecord.FromString(data)
            message.content.items.add(key=reference.key, array_record=record)
        return message

    @property
    def run(self) -> Run:
        """As it stands."""
        with self.store.read() as tx:
            found = tx.runs.get("digits-r1")
        assert found is not None
        return found


def softmax_model() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        "softmax",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])],
        [
            numpy_helper.from_array(np.zeros((FEATURES, CLASSES), np.float32), "weight"),
            numpy_helper.from_array(np.zeros(CLASSES, np.float32), "bias"),
        ],
    )
    return bytes(helper.make_model(graph).SerializeToString())


def train_step(model: bytes) -> bytes:
    """What it says of itself; nobody runs it here."""
    spec = TrainStepSpec(
        model_sha256=hashlib.sha256(model).hexdigest(),
        loss=Loss.SOFTMAX_CROSS_ENTROPY,
        optimizer=Optimizer.SGD,
        parameters=(Parameter("weight", (FEATURES, CLASSES)), Parameter("bias", (CLASSES,))),
        inputs=("x",),
        target_shape=(-1,),
        sample_weight=True,
        proximal=False,
    )
    made = helper.make_model(helper.make_graph([], "step", [], []))
    made.metadata_props.add(key=METADATA_KEY, value=spec.encode())
    return bytes(made.SerializeToString())


@contextmanager
def folder(path: Path) -> Iterator[Folder]:
    path.mkdir()
    home = Home(path)
    blobs = BlobFolder.open(home.blobs)
    model = softmax_model()
    files = {
        role: File(sha256=blobs.put(data), length=len(data))
        for role, data in ((Role.MODEL, model), (Role.TRAIN_STEP, train_step(model)))
    }
    told = manifest("digits", 3)
    made = msgspec.structs.replace(told, files={**told.files, **files})
    version = replace(registered("digits", 3), manifest=made.encode(), manifest_sha256=made.digest)
    with closing(home.open_store()) as store:
        with store.begin() as tx:
            tx.registry.put_model(Model("digits", START, 1, {}, ""))
            tx.registry.put_version(version)
            tx.runs.put(run(file=FILE, manifest_sha256=made.digest))
            for name in NAMES:
                tx.devices.put(replace(DEVICE, id=name))
                tx.devices.touch(name, START, connected=True)
                said = DeviceReadiness(
                    device=name,
                    model="digits",
                    version=3,
                    manifest_sha256=made.digest,
                    eligible=True,
                )
                tx.tasks.replace_readiness(name, [said])
        intake = Intake(store, ReplyFolder.open(home.replies), lambda _: None)
        learners = {name: Learner(at) for at, name in enumerate(NAMES)}
        yield Folder(home, store, intake, learners)


@contextmanager
def coordinator(found: Folder) -> Iterator[subprocess.Popen[bytes]]:
    words = ("--home", str(found.home.path), "--run", "digits-r1")
    log = (found.home.path / "log").open("ab")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", "controller.federated.coordinator", *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[bytes]) -> bool:
    """Waits until devices are to be told; False if the process has ended instead."""
    assert process.stdout is not None
    return bool(os.read(process.stdout.fileno(), 1))


def to_its_end(found: Folder) -> str:
    """Runs a coordinator to its end, its devices answering; the final parameters."""
    with coordinator(found) as process:
        found.answer()
        while told(process):
            found.answer()
        assert process.wait() == 0, (found.home.path / "log").read_text()
    assert found.run.state is RunState.FINISHED
    return str(found.run.arrays_sha256)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    with folder(tmp_path_factory.mktemp("whole") / "home") as found:
        return to_its_end(found)


def test_killed_between_two_replies_and_after_a_round_it_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: str
) -> None:
    with folder(tmp_path / "home") as found:
        with coordinator(found) as process:
            assert told(process)
            found.answer(most=1)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        with coordinator(found) as process:
            found.answer()
            assert told(process)  # the round is closed
            assert told(process)  # the next one is posted
            process.send_signal(signal.SIGKILL)
            process.wait()

        assert to_its_end(found) == uninterrupted


def test_the_next_one_waits_until_the_one_before_it_is_gone(
    tmp_path: Path, uninterrupted: str
) -> None:
    with folder(tmp_path / "home") as found, coordinator(found) as first:
        assert told(first)
        first.send_signal(signal.SIGSTOP)  # as one that calculates, and hears nothing
        with coordinator(found) as second:
            soon(lambda: "coordinator.waits" in (found.home.path / "log").read_text())
            found.answer()
            assert found.run.round == 0
            first.kill()
            while told(second):
                found.answer()
            assert second.wait() == 0, (found.home.path / "log").read_text()

        assert found.run.arrays_sha256 == uninterrupted


def soon(happened: Callable[[], bool]) -> None:
    """Returns a moment after it has happened."""
    pause = threading.Event()
    for _ in range(3_000):
        if happened():
            return
        pause.wait(0.02)
    raise AssertionError("it never happened")


def test_it_ends_when_its_controller_does(tmp_path: Path) -> None:
    with folder(tmp_path / "home") as found:
        with coordinator(found) as process:
            assert told(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait() == -signal.SIGKILL

        assert found.run.state is RunState.RUNNING


def test_what_an_app_has_forked_ends_with_its_coordinator(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "left")
    with folder(tmp_path / "home") as found:
        apps = found.home.path / "apps"
        apps.mkdir()
        (apps / "forking.py").write_text(FORKS.format(str(tmp_path / "left")))
        forking = replace(found.run, app="forking:app")
        with found.store.begin() as tx:
            tx.runs.put(forking)
        with coordinator(found) as process, (tmp_path / "left").open("rb") as left:
            assert process.stdin is not None
            process.stdin.close()

            assert process.wait() == -signal.SIGKILL
            assert left.read() == b""
            assert process.stdout is not None
            assert process.stdout.read() == b""
