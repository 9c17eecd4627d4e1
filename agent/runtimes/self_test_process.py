"""The process that tests one version: ``python -I -m agent.runtimes.self_test_process``.

Takes a ``Job`` on stdin; answers ``Started`` and ``Outcome`` on stdout. A model may take this process
down, and nothing else: it has limits, no secrets and no open files of the agent.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from agent.errors import (
    AgentError,
    HashMismatch,
    InferenceFailed,
    MalformedDocument,
    ModelLoadFailed,
    SelfTestMemory,
    SelfTestMismatch,
)
from agent.inference.golden import Comparison, Golden, compare, decode
from agent.inference.signature import VARIABLE
from agent.runtimes.limits import limit, out_of_memory, reset_peak, status_bytes
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.runtime import LoadedModel, Tensors
from agent.runtimes.self_test_job import LINE_BYTES, Job, Outcome, Started
from protos.documents import sha256
from protos.manifest import Manifest, Role, read_manifest

NICENESS: Final = 5
BLOCK: Final = 100
BLOCKS: Final = 3
FEWEST: Final = 5
DETAIL_CHARACTERS: Final = 2000


def main() -> None:
    """Tests what stdin names, and answers on what was stdout when it began."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a runtime prints is no answer
    job = msgspec.json.decode(sys.stdin.buffer.readline(LINE_BYTES), type=Job)
    manifest = read_manifest(job.manifest.encode())
    runtime = OnnxRuntime()
    _ = runtime.version  # imports the library, so that it counts as there before
    limit(job.seconds, manifest.budgets.memory_bytes)
    signal.setitimer(signal.ITIMER_REAL, job.seconds)  # if the agent is gone, so is this
    os.nice(NICENESS)
    _say(answers, Started(resident_bytes=status_bytes("VmRSS")))
    baseline = reset_peak()
    try:
        model = _load(runtime, job, manifest)
        outcome = _test(model, job, manifest)
    except AgentError as error:
        outcome = Outcome(code=error.code, detail=str(error)[:DETAIL_CHARACTERS])
    peak = max(0, status_bytes("VmHWM") - baseline)
    _say(answers, msgspec.structs.replace(outcome, peak_bytes=peak))


def _say(answers: BinaryIO, message: Started | Outcome) -> None:
    answers.write(msgspec.json.encode(message) + b"\n")


# --- The test -------------------------------------------------------------------------------------


def _load(runtime: OnnxRuntime, job: Job, manifest: Manifest) -> LoadedModel:
    if manifest.needs.runtime != runtime.name:
        raise ModelLoadFailed(f"{manifest.reference}: no runtime {manifest.needs.runtime!r} here")
    data = _read(job.model_path, manifest, Role.MODEL)
    try:
        return runtime.load(data, manifest)
    except ModelLoadFailed as error:
        raise _out_of_memory(error) or error from error


def _read(path: str, manifest: Manifest, role: Role) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:  # the disk's fault, and not the version's
        raise HashMismatch(f"{manifest.reference}: {role.value}: {error}") from error
    if sha256(data) != manifest.files[role].sha256:
        raise HashMismatch(f"{manifest.reference}: {path} is not the {role.value} that was signed")
    return data


def _test(model: LoadedModel, job: Job, manifest: Manifest) -> Outcome:
    try:
        golden = decode(_read(job.golden_path, manifest, Role.GOLDEN))
        comparison = _answer(model, golden)
    except MalformedDocument as error:
        raise SelfTestMismatch(f"{manifest.reference}: {error}") from error
    except InferenceFailed as error:
        raise _out_of_memory(error) or SelfTestMismatch(str(error)) from error
    if comparison.objections:
        raise SelfTestMismatch(f"{manifest.reference}: {'; '.join(comparison.objections)}")
    row = _first_row(golden.inputs, manifest)
    names = list(golden.outputs)
    seconds = _p99(lambda: model.run(row, names), manifest, job.measuring_seconds)
    return Outcome(p99_seconds=seconds, max_difference=comparison.difference)


def _answer(model: LoadedModel, golden: Golden) -> Comparison:
    names = list(golden.outputs)
    return compare(golden, dict(zip(names, model.run(golden.inputs, names), strict=True)))


def _out_of_memory(error: AgentError) -> SelfTestMemory | None:
    return SelfTestMemory(str(error)) if out_of_memory(error) else None


def _first_row(inputs: Tensors, manifest: Manifest) -> Tensors:
    """One row of every input that has a batch axis: a request, not a batch, has the budget."""
    batched = {one.name for one in manifest.inputs if one.shape[:1] == (VARIABLE,)}
    return {name: array[:1] if name in batched else array for name, array in inputs.items()}


def _p99(run: Callable[[], object], manifest: Manifest, seconds: float) -> float:
    """The lowest p99 of up to three blocks; ends at the first that keeps the budget.

    What else the device was doing can make a block slower than the model is, never faster.
    """
    best = math.inf
    for _ in range(BLOCKS):
        best = min(best, _block_p99(run, seconds / BLOCKS))
        if best <= manifest.budgets.latency_p99_seconds:
            break
    return best


def _block_p99(run: Callable[[], object], seconds: float) -> float:
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < FEWEST or (len(took) < BLOCK and time.perf_counter() - began < seconds):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    return float(np.quantile(took, 0.99))


if __name__ == "__main__":
    main()
