"""The process that makes a candidate: ``python -I -m controller.runtimes.candidate_process PIPE``.

Takes a ``CandidateJob`` on stdin, and answers on stdout: seconds of work that hold up nobody there.
"""

import time

import msgspec
import numpy as np
import psutil

from agent.runtimes.onnx import OnnxRuntime
from controller.candidate.preparation import prepare
from controller.errors import BadModel, ControllerError
from controller.registry.trial import Gauges
from controller.runtimes.candidate_job import CandidateJob
from controller.runtimes.limits import answer_with, limit
from controller.runtimes.preparation_job import Answer


def answered(message: bytes) -> bytes:
    """Prepares the candidate."""
    job = msgspec.msgpack.decode(message, type=CandidateJob)
    runtime = OnnxRuntime()
    _ = runtime.version  # imports the library: that is not the model's memory
    limit(job.seconds, job.memory_bytes)
    return msgspec.msgpack.encode(_answer(runtime, job))


def _answer(runtime: OnnxRuntime, job: CandidateJob) -> Answer:
    resident = psutil.Process()
    gauges = Gauges(time.perf_counter, lambda: int(resident.memory_info().rss))
    rng = np.random.default_rng(job.seed)
    try:
        prepared = prepare(
            runtime, job.parent, job.trained, job.counts, gauges, rng, lambda _what, _share: None
        )
    except ControllerError as error:
        return Answer(code=error.code, detail=error.detail)
    except MemoryError:
        detail = f"what {job.run} has trained takes more than {job.memory_bytes:,} bytes to try"
        return Answer(code=BadModel.code, detail=detail)
    return Answer(prepared=prepared)


if __name__ == "__main__":
    answer_with(answered)
