"""The process that tries one model: ``python -I -m controller.runtimes.preparation_process PIPE``.

Takes a ``Job`` on stdin, and answers on stdout. A model may load for ever or ask for all memory:
that takes this process down, and nothing else.
"""

import time

import msgspec
import numpy as np
import psutil

from agent.runtimes.onnx import OnnxRuntime
from controller.errors import BadModel, ControllerError
from controller.registry.preparation import prepare
from controller.registry.trial import Gauges
from controller.runtimes.limits import answer_with, limit
from controller.runtimes.preparation_job import Answer, Job


def answered(message: bytes) -> bytes:
    """Prepares what the job asks for."""
    job = msgspec.msgpack.decode(message, type=Job)
    runtime = OnnxRuntime()
    _ = runtime.version  # imports the library: that is not the model's memory
    limit(job.seconds, job.memory_bytes)
    return msgspec.msgpack.encode(_answer(runtime, job))


def _answer(runtime: OnnxRuntime, job: Job) -> Answer:
    resident = psutil.Process()
    gauges = Gauges(time.perf_counter, lambda: int(resident.memory_info().rss))
    try:
        rng = np.random.default_rng(job.seed)
        prepared = prepare(
            runtime, job.request, job.parent, gauges, rng, lambda _what, _share: None
        )
    except ControllerError as error:
        return Answer(code=error.code, detail=error.detail)
    except MemoryError:
        detail = f"{job.request.onnx_name}: it takes more than {job.memory_bytes:,} bytes to try"
        return Answer(code=BadModel.code, detail=detail)
    return Answer(prepared=prepared)


if __name__ == "__main__":
    answer_with(answered)
