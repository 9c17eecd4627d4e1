import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from agent.errors import (
    HashMismatch,
    InstallFailed,
    ModelLoadFailed,
    NoProcess,
    SelfTestCrashed,
    SelfTestKilled,
    SelfTestMemory,
    SelfTestMismatch,
    SelfTestSlow,
    SelfTestTimeout,
)
from agent.inference.golden import Golden, Tolerance, encode
from agent.install.machine import Event
from agent.install.outcome import outcome_of
from agent.install.ports import SelfTest
from agent.runtimes.self_test import ProcessSelfTest
from protos.documents import sha256
from protos.manifest import Manifest, Needs
from tests.agent.onnx_models import (
    MIB,
    linear_golden,
    linear_manifest,
    linear_model,
    manifest_of,
    model_bytes,
    tensor,
)

Keep = Callable[[bytes], None]
DEADLINE = 20.0


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    def kept(data: bytes) -> None:
        (tmp_path / sha256(data)).write_bytes(data)

    return kept


@pytest.fixture
def self_test(tmp_path: Path) -> ProcessSelfTest:
    return ProcessSelfTest(tmp_path.joinpath, DEADLINE)


def children() -> set[int]:
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "agent.runtimes.self_test_process" in child.cmdline()
    }


def wait_for_child() -> int:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if found := children():
            return found.pop()
    raise AssertionError("no test process was started")


async def test_a_good_version_passes_and_its_costs_are_told(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    model = linear_model()
    keep(model)
    keep(encode(linear_golden()))
    port: SelfTest = self_test

    result = await port.run(linear_manifest(model))

    assert result.max_difference == 0.0
    assert 0 < result.p99_seconds < 1.0
    assert 0 < result.peak_memory_bytes < 256 * MIB
    assert children() == set()


async def test_outputs_within_their_tolerance_pass_and_the_difference_is_told(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    model, vectors = linear_model(), linear_golden()
    off = {**vectors.outputs, "scores": vectors.outputs["scores"] + np.float32(0.5)}
    golden = encode(Golden(vectors.inputs, off, {"scores": Tolerance(absolute=0.75)}))
    keep(model)
    keep(golden)

    result = await self_test.run(linear_manifest(model, golden=golden))

    assert result.max_difference == 0.5


async def test_outputs_that_are_off_are_named_with_their_difference(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    model, golden = linear_model(), encode(linear_golden(scale=2.0))
    keep(model)
    keep(golden)

    with pytest.raises(SelfTestMismatch, match=r"output 'scores'.* by up to \d+"):
        await self_test.run(linear_manifest(model, golden=golden))


async def test_golden_inputs_that_the_runtime_fails_on_are_a_mismatch(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    golden = encode(Golden({"x": np.ones((1, 9), np.float32)}, linear_golden().outputs, {}))
    model = linear_model()
    keep(model)
    keep(golden)

    with pytest.raises(SelfTestMismatch, match="x"):
        await self_test.run(linear_manifest(model, golden=golden))


async def test_golden_vectors_that_cannot_be_read_are_a_mismatch(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    model = linear_model()
    keep(model)
    keep(b"no vectors")

    with pytest.raises(SelfTestMismatch, match="golden vectors"):
        await self_test.run(linear_manifest(model, golden=b"no vectors"))


async def test_a_file_that_is_no_model_is_refused(keep: Keep, self_test: ProcessSelfTest) -> None:
    keep(b"no model")
    keep(encode(linear_golden()))

    with pytest.raises(ModelLoadFailed, match="linear/1"):
        await self_test.run(linear_manifest(b"no model"))


async def test_a_missing_file_is_named(self_test: ProcessSelfTest) -> None:
    with pytest.raises(HashMismatch, match=r"linear/1: model: .*No such file"):
        await self_test.run(linear_manifest(linear_model()))


async def test_a_file_that_was_altered_is_refused(
    keep: Keep, self_test: ProcessSelfTest, tmp_path: Path
) -> None:
    model = linear_model()
    keep(encode(linear_golden()))
    (tmp_path / sha256(model)).write_bytes(linear_model(scale=2.0))

    with pytest.raises(HashMismatch, match="model"):
        await self_test.run(linear_manifest(model))


async def test_a_runtime_that_is_not_here_is_refused(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    manifest = msgspec.structs.replace(
        linear_manifest(linear_model()), needs=Needs(runtime="tflite")
    )

    with pytest.raises(ModelLoadFailed, match="tflite"):
        await self_test.run(manifest)


async def test_a_version_slower_than_its_budget_is_refused(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    model = linear_model()
    keep(model)
    keep(encode(linear_golden()))

    with pytest.raises(SelfTestSlow, match="the budget is 1e-06 ms"):
        await self_test.run(linear_manifest(model, latency=1e-9))


def crashing() -> bytes:
    """The remainder of the lowest INT32 by -1: x86 traps on it, and onnxruntime does not look."""
    return model_bytes(
        [helper.make_node("Mod", ["x", "minus_one"], ["y"])],
        [("x", TensorProto.INT32, ["batch", 4])],
        [("y", TensorProto.INT32, ["batch", 4])],
        [("minus_one", np.full(1, -1, np.int32))],
    )


async def test_a_model_that_takes_its_process_down_is_refused_by_the_signals_name(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    x: NDArray[Any] = np.full((1, 4), -(2**31), np.int32)
    model, golden = crashing(), encode(Golden({"x": x}, {"y": x * 0 + 7}, {}))
    inputs, outputs = [tensor("x", "INT32", -1, 4)], [tensor("y", "INT32", -1, 4)]
    keep(model)
    keep(golden)

    with pytest.raises(InstallFailed) as refusal:
        await self_test.run(manifest_of(model, inputs, outputs, golden=golden))

    # A processor that does not trap gives an answer, which is not the golden one.
    if os.uname().machine == "x86_64":
        assert isinstance(refusal.value, SelfTestCrashed)
        assert "SIGFPE" in str(refusal.value)
    assert children() == set()


def endless() -> bytes:
    """Counts to 2**62 in a loop of the model's own."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["sum", "sum"], ["more"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, None),
        ],
    )
    return model_bytes(
        [helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body)],
        [("x", TensorProto.FLOAT, ["batch", 4])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        [("trips", np.array(2**62)), ("yes", np.array([True]).reshape(()))],
    )


def float_manifest(model: bytes, golden: bytes, **more: Any) -> Manifest:
    inputs, outputs = [tensor("x", "FP32", -1, 4)], [tensor("y", "FP32", -1, 4)]
    return manifest_of(model, inputs, outputs, golden=golden, **more)


async def test_a_model_that_never_ends_is_stopped(keep: Keep, tmp_path: Path) -> None:
    x = np.zeros((1, 4), np.float32)
    model, golden = endless(), encode(Golden({"x": x}, {"y": x}, {}))
    keep(model)
    keep(golden)

    with pytest.raises(SelfTestTimeout, match=r"2 s|SIG"):
        await ProcessSelfTest(tmp_path.joinpath, 2.0).run(float_manifest(model, golden))
    assert children() == set()


def hungry(elements: int) -> bytes:
    """Takes four bytes for each of ``elements`` before it answers with its input."""
    return model_bytes(
        [
            helper.make_node("ConstantOfShape", ["much"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 4]), ("much", TensorProto.INT64, [1])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
    )


@pytest.mark.parametrize("elements", [20 * MIB, 2**36], ids=["a little over", "far over"])
async def test_a_model_that_takes_more_memory_than_its_budget_is_refused(
    keep: Keep, self_test: ProcessSelfTest, elements: int
) -> None:
    x = np.zeros((1, 4), np.float32)
    model = hungry(elements)
    golden = encode(Golden({"x": x, "much": np.array([elements])}, {"y": x}, {}))
    manifest = manifest_of(
        model,
        [tensor("x", "FP32", -1, 4), tensor("much", "INT64", 1)],
        [tensor("y", "FP32", -1, 4)],
        golden=golden,
        memory=64 * MIB,
    )
    keep(model)
    keep(golden)

    with pytest.raises(SelfTestMemory):
        await self_test.run(manifest)
    assert children() == set()


async def test_cancelling_ends_the_process(keep: Keep, self_test: ProcessSelfTest) -> None:
    x = np.zeros((1, 4), np.float32)
    model, golden = endless(), encode(Golden({"x": x}, {"y": x}, {}))
    keep(model)
    keep(golden)
    task = asyncio.create_task(self_test.run(float_manifest(model, golden)))
    await asyncio.to_thread(wait_for_child)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert children() == set()


async def test_a_process_that_is_killed_from_outside_is_held_against_no_version(
    keep: Keep, self_test: ProcessSelfTest
) -> None:
    x = np.zeros((1, 4), np.float32)
    model, golden = endless(), encode(Golden({"x": x}, {"y": x}, {}))
    keep(model)
    keep(golden)
    task = asyncio.create_task(self_test.run(float_manifest(model, golden)))
    os.kill(await asyncio.to_thread(wait_for_child), signal.SIGKILL)

    with pytest.raises(SelfTestKilled, match="SIGKILL") as caught:
        await task
    assert outcome_of(caught.value).event is Event.DEFER


async def test_a_device_that_can_start_no_process_holds_it_against_no_version(
    self_test: ProcessSelfTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))

    with pytest.raises(NoProcess, match="linear/1: no process to test it in") as caught:
        await self_test.run(linear_manifest(linear_model()))
    assert outcome_of(caught.value).event is Event.DEFER


async def test_the_process_knows_nothing_of_the_agents_environment(
    keep: Keep, self_test: ProcessSelfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_SECRET", "hidden")
    x = np.zeros((1, 4), np.float32)
    model, golden = endless(), encode(Golden({"x": x}, {"y": x}, {}))
    keep(model)
    keep(golden)
    task = asyncio.create_task(self_test.run(float_manifest(model, golden)))
    try:
        pid = await asyncio.to_thread(wait_for_child)
        environment = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
        assert b"MUSTER" not in environment
        assert os.getpgid(pid) == pid
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_test_process_imports_no_network_and_no_store() -> None:
    code = (
        "import sys, agent.runtimes.self_test_process\n"
        "bad = {'grpc', 'uvicorn', 'sqlite3', 'tuf', 'asyncio', 'psutil'} & set(sys.modules)\n"
        "sys.exit(repr(sorted(bad)) if bad else 0)"
    )

    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=DEADLINE)
