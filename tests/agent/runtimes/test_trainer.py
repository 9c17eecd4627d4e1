"""The process that trains: its limits, its manners, and its end."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.errors import NoProcess, StoreError
from agent.federated.errors import (
    InferenceFirst,
    OverBudget,
    StepRefused,
    TrainerCrashed,
    TrainingInterrupted,
)
from agent.federated.trainer import Budget, Plan, TrainJob, TrainResult
from agent.runtimes.trainer import ProcessTrainer
from agent.serving.workers import Workers
from protos.documents import sha256
from protos.limits import MIB
from simulations.memory_examples import MemoryExamples
from tests.agent.federated.learners import HALF, Learner, classifier, clouds, keep, with_step

DEADLINE = 20.0
ENDLESS = Plan(epochs=10**9)


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


class Bench:
    """A trainer before a folder of blobs, and requests that keep it waiting."""

    def __init__(self, folder: Path, learner: Learner) -> None:
        self.folder, self.learner = folder, learner
        self.examples = MemoryExamples(HALF)
        self.workers = Workers(1)
        keep(self.examples, learner, *clouds(200))
        self.put(*learner.blobs.values())

    def put(self, *files: bytes) -> None:
        for data in files:
            (self.folder / sha256(data)).write_bytes(data)

    def train(
        self, budget: Budget, plan: Plan = ENDLESS, step: bytes = b""
    ) -> "asyncio.Task[TrainResult]":
        manifest = self.learner.manifest
        if step:
            self.put(step)
            manifest = with_step(manifest, step)
        job = TrainJob(manifest=manifest, parameters=self.learner.parameters, plan=plan)
        self.trainer = ProcessTrainer(self.folder.joinpath, self.examples, budget, self.workers)
        return asyncio.ensure_future(self.trainer.train(job))


@pytest.fixture
def bench(tmp_path: Path, learner: Learner) -> Bench:
    return Bench(tmp_path, learner)


def children() -> set[int]:
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "agent.runtimes.trainer_process" in child.cmdline()
    }


async def eventually(found: Callable[[], Any]) -> Any:
    """What ``found`` returns when it is true at last."""

    def wait() -> Any:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if value := found():
                return value
        raise AssertionError("it has not happened")

    return await asyncio.to_thread(wait)


def trained_for(pid: int, seconds: float) -> bool:
    return psutil.Process(pid).cpu_times().user > seconds


async def test_cancelling_ends_the_process(bench: Bench) -> None:
    task = bench.train(Budget())
    await eventually(children)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert children() == set()


async def test_one_job_at_a_time(bench: Bench) -> None:
    trainer = ProcessTrainer(bench.folder.joinpath, bench.examples, Budget(), bench.workers)
    job = TrainJob(
        manifest=bench.learner.manifest, parameters=bench.learner.parameters, plan=ENDLESS
    )
    tasks = [asyncio.ensure_future(trainer.train(job)) for _ in range(2)]
    (pid,) = await eventually(children)
    await eventually(lambda: trained_for(pid, 0.5))

    assert children() == {pid}

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert children() == set()


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGKILL, TrainingInterrupted), (signal.SIGSEGV, TrainerCrashed)],
)
async def test_a_process_that_dies_says_how(
    bench: Bench, number: signal.Signals, error: type[Exception]
) -> None:
    task = bench.train(Budget())
    (pid,) = await eventually(children)
    os.kill(pid, number)

    with pytest.raises(error, match=number.name):
        await task
    assert children() == set()


async def test_training_that_is_not_done_in_time_is_ended(bench: Bench) -> None:
    with pytest.raises(OverBudget, match=r"not done after 0\.5 s"):
        await bench.train(Budget(seconds=0.5))
    assert children() == set()


async def test_the_devices_bound_of_steps_holds_for_every_plan(bench: Bench) -> None:
    result = await bench.train(Budget(steps=5))

    assert result.steps == 5


def edited(step: bytes, edit: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.ModelProto.FromString(step)
    edit(model)
    return bytes(model.SerializeToString())


def hungry(elements: int) -> Callable[[onnx.ModelProto], None]:
    """Has the step fill so many floats, each time."""

    def edit(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.initializer.append(numpy_helper.from_array(np.array([elements]), "much"))
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
        graph.node.append(helper.make_node("ConstantOfShape", ["much"], ["big"], value=value))
        graph.node.append(helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, []))

    return edit


@pytest.mark.parametrize("elements", [24 * MIB, 2**36], ids=["a little over", "far over"])
async def test_a_step_that_takes_more_memory_than_the_budget_is_ended(
    bench: Bench, elements: int
) -> None:
    with pytest.raises(OverBudget, match=r"memory|MiB"):
        await bench.train(
            Budget(memory_bytes=48 * MIB), step=edited(bench.learner.step, hungry(elements))
        )
    assert children() == set()


async def test_examples_that_do_not_fit_into_the_budget_end_it(bench: Bench) -> None:
    keep(bench.examples, bench.learner, *clouds(1000, seed=2), source="more")

    with pytest.raises(OverBudget):
        await bench.train(Budget(memory_bytes=MIB))
    assert children() == set()


async def test_a_step_that_onnxruntime_cannot_load_is_refused(bench: Bench) -> None:
    def break_it(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "nowhere"

    with pytest.raises(StepRefused):
        await bench.train(Budget(), step=edited(bench.learner.step, break_it))


async def test_a_step_whose_inputs_are_not_what_it_says_is_refused(bench: Bench) -> None:
    def add(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("odd", TensorProto.FLOAT, []))

    with pytest.raises(StepRefused, match="'odd'"):
        await bench.train(Budget(), step=edited(bench.learner.step, add))


async def test_a_step_with_an_operator_that_is_not_allowed_starts_no_process(bench: Bench) -> None:
    def add(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("RandomNormal", [], ["dice"], shape=[1]))

    with pytest.raises(StepRefused, match="'RandomNormal'"):
        await bench.train(Budget(), step=edited(bench.learner.step, add))
    assert children() == set()


async def test_examples_that_cannot_be_read_say_why(bench: Bench) -> None:
    class Broken(MemoryExamples):
        def rows(self, *_: Any) -> Any:
            raise StoreError("the disk is broken")

    bench.examples = Broken(HALF, bench.examples.kept)

    with pytest.raises(StoreError, match="the disk is broken"):
        await bench.train(Budget())
    assert children() == set()


async def test_a_device_that_can_start_no_process_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(bench.folder / "gone"))

    with pytest.raises(NoProcess, match="no process to train in"):
        await bench.train(Budget())


# --- Giving way to inference ----------------------------------------------------------------------


def status(pid: int) -> str:
    return str(psutil.Process(pid).status())


async def test_training_stands_still_while_a_request_is_answered_and_then_goes_on(
    bench: Bench,
) -> None:
    task = bench.train(Budget(), Plan(epochs=400))
    (pid,) = await eventually(children)
    answer = threading.Event()
    request = asyncio.ensure_future(bench.workers.run(lambda: answer.wait(DEADLINE)))

    await eventually(lambda: status(pid) == psutil.STATUS_STOPPED)
    assert not task.done()
    answer.set()
    assert await request
    result = await task

    assert result.waited_seconds > 0
    spent = bench.trainer.spent
    assert spent.yields >= 1
    assert spent.ran >= result.seconds > 0
    assert spent.waited >= result.waited_seconds
    assert (result.after.accuracy or 0) > 0.8


async def test_requests_that_never_end_leave_training_for_another_time(bench: Bench) -> None:
    answer = threading.Event()
    request = asyncio.ensure_future(bench.workers.run(lambda: answer.wait(DEADLINE)))
    await asyncio.sleep(0)

    with pytest.raises(InferenceFirst, match=r"waiting for 0\.2 s"):
        await bench.train(Budget(waiting_seconds=0.2))
    assert bench.trainer.spent.waited > 0.2
    answer.set()
    await request

    assert children() == set()


# --- What it knows --------------------------------------------------------------------------------


async def test_the_process_is_nice_and_knows_nothing_of_the_agents_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_SECRET", "hidden")
    task = bench.train(Budget())
    try:
        (pid,) = await eventually(children)
        environment = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
        assert b"MUSTER" not in environment
        assert os.getpgid(pid) == pid
        assert await eventually(lambda: psutil.Process(pid).nice() >= 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_process_that_dies_with_the_agent_does_so_even_while_it_stands_still() -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from agent.runtimes.child import send\n"
        "async def main():\n"
        "    child = await asyncio.create_subprocess_exec(sys.executable, '-c',\n"
        "        f'from agent.runtimes.limits import die_with; die_with({os.getpid()});'\n"
        "        'print(1, flush=True); import time; time.sleep(600)',\n"
        "        stdout=asyncio.subprocess.PIPE, start_new_session=True)\n"
        "    await child.stdout.readline()\n"
        "    send(child, signal.SIGSTOP)\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + DEADLINE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline


def test_the_process_imports_no_network_and_no_store() -> None:
    code = (
        "import sys, agent.runtimes.trainer_process\n"
        "bad = {'grpc', 'google', 'tuf', 'securesystemslib', 'uvicorn', 'sqlite3', 'sqlite_utils',\n"
        "       'asyncio', 'psutil', 'cryptography', 'onnx', 'controller'} & set(sys.modules)\n"
        "sys.exit(repr(sorted(bad)) if bad else 0)"
    )

    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=DEADLINE)
