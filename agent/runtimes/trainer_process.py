"""The process that trains: ``python -I -m agent.runtimes.trainer_process``.

It speaks as ``trainer_job`` says. A training step may take this process down, and nothing else: it has
limits, no secrets and no open files of the agent, writes nothing to the disk, and ends with the agent.
"""

import os
import sys
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from agent.errors import AgentError, HashMismatch
from agent.federated.errors import OverBudget, StepRefused
from agent.federated.examples import rows_at_once
from agent.federated.layout import Array, Layout, records
from agent.federated.local_training import evaluate, known_classes, train
from agent.federated.parameters import Parameters, check_parameters
from agent.federated.rejection import check_held_out, check_no_worse, check_training
from agent.federated.step_file import StepFile, read_step
from agent.runtimes.limits import die_with, limit, out_of_memory, reset_peak, status_bytes
from agent.runtimes.onnx import library
from agent.runtimes.train_step import OnnxTrainStep
from agent.runtimes.trainer_job import LENGTH, LINE_BYTES, Job, Outcome, Started
from protos.documents import sha256
from protos.limits import MIB
from protos.train_step import TrainStepSpec

DETAIL_CHARACTERS: Final = 2000


def main() -> None:
    """Does what stdin says, and answers on what was stdout when it began."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a runtime prints is no answer
    asked = sys.stdin.buffer
    job = msgspec.json.decode(asked.readline(LINE_BYTES), type=Job)
    die_with(job.parent)
    library()  # imported here, so that it counts as there before
    limit(job.seconds, job.memory_bytes)
    _say(answers, Started(resident_bytes=status_bytes("VmRSS")))
    baseline = reset_peak()
    parameters: Parameters = {}
    try:
        outcome, parameters = _carry_out(job, asked)
    except (AgentError, MemoryError) as error:
        outcome = _failed(job, error)
    peak = max(0, status_bytes("VmHWM") - baseline)
    _say(answers, msgspec.structs.replace(outcome, peak_bytes=peak))
    for array in parameters.values():
        answers.write(array.astype("<f4", copy=False).tobytes())
    answers.flush()


def _failed(job: Job, error: AgentError | MemoryError) -> Outcome:
    if isinstance(error, MemoryError) or out_of_memory(error):
        error = OverBudget(
            f"{job.reference}: training needs more memory than {job.memory_bytes / MIB:.0f} MiB"
        )
    return Outcome(code=error.code, detail=error.detail[:DETAIL_CHARACTERS])


def _say(answers: BinaryIO, message: Started | Outcome) -> None:
    answers.write(msgspec.json.encode(message) + b"\n")
    answers.flush()


# --- What it is given -----------------------------------------------------------------------------


def _loaded(job: Job) -> tuple[bytes, StepFile]:
    """The training step, looked through before any runtime sees it."""
    try:
        data = Path(job.step_path).read_bytes()
    except OSError as error:  # the disk's fault, and not the version's
        raise HashMismatch(f"{job.reference}: training step: {error}") from error
    if sha256(data) != job.step_sha256:
        raise HashMismatch(f"{job.reference}: the training step is not the one that was signed")
    file = read_step(data)
    if file.spec.model_sha256 != job.model_sha256:
        raise StepRefused(f"{job.reference}: the training step was built from another model")
    return data, file


def _parameters(asked: BinaryIO, spec: TrainStepSpec) -> Parameters:
    found = {}
    for one in spec.parameters:
        size = 4 * int(np.prod(one.shape, dtype=np.int64))
        data = np.frombuffer(_exactly(asked, size), "<f4")
        found[one.name] = data.astype(np.float32, copy=False).reshape(one.shape)
    check_parameters(spec, found)
    return found


def _rows(asked: BinaryIO, layout: Layout) -> Array:
    data = bytearray()
    most = rows_at_once(layout) * layout.row_bytes
    while length := LENGTH.unpack(_exactly(asked, LENGTH.size))[0]:
        if length > most or length % layout.row_bytes:
            raise EOFError
        data += _exactly(asked, length)
    return records(layout, data)


def _exactly(asked: BinaryIO, size: int) -> bytes:
    data = asked.read(size)
    if len(data) != size:
        raise EOFError
    return data


# --- The work -------------------------------------------------------------------------------------


def _carry_out(job: Job, asked: BinaryIO) -> tuple[Outcome, Parameters]:
    data, file = _loaded(job)
    parameters = _parameters(asked, file.spec)
    training, held_out = (
        known_classes(file.spec, file.classes, _rows(asked, job.layout)) for _ in range(2)
    )
    check_held_out(job.bounds, len(held_out))
    if job.plan is None:
        step = OnnxTrainStep(data, file, job.threads)
        return Outcome(before=evaluate(step, parameters, held_out)), {}
    check_training(job.bounds, len(training))
    step = OnnxTrainStep(data, file, job.threads)
    before = evaluate(step, parameters, held_out)
    trained = train(step, parameters, training, job.plan, np.random.default_rng(job.plan.seed))
    after = evaluate(step, trained.parameters, held_out)
    check_no_worse(job.bounds, before, after)
    outcome = Outcome(
        steps=trained.steps,
        examples=len(training),
        first_loss=trained.first_loss,
        last_loss=trained.last_loss,
        before=before,
        after=after,
    )
    return outcome, trained.parameters


if __name__ == "__main__":
    main()
