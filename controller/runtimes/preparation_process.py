"""The process that tries one model: ``python -I -m controller.runtimes.preparation_process``.

Takes a ``Job`` on stdin, and answers on stdout. A model may load for ever or ask for all memory:
that takes this process down, and nothing else.
"""

import contextlib
import os
import resource
import signal
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import psutil

from agent.runtimes.onnx import OnnxRuntime
from controller.errors import BadModel, ControllerError
from controller.registry.preparation import prepare
from controller.registry.trial import Gauges
from controller.runtimes.preparation_job import Answer, Job

NICENESS = 5


def main() -> None:
    """Prepares what stdin holds, and answers on what was stdout when it began."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a runtime prints is no answer
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job)
    runtime = OnnxRuntime()
    _ = runtime.version  # imports the library: that is not the model's memory
    _limit(job)
    with answers:
        answers.write(msgspec.msgpack.encode(_answer(runtime, job)))


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


def _limit(job: Job) -> None:
    """Nothing the model does from here on can last, fill the memory or the disk, or dump core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (job.seconds, job.seconds + 1))
    signal.setitimer(signal.ITIMER_REAL, job.seconds)  # if the controller is gone, so is this
    # Data, not address space: a runtime reserves far more addresses than it ever uses.
    data = _data_bytes() + job.memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    with contextlib.suppress(OSError):  # if memory ends all the same, this is who pays for it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.nice(NICENESS)


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
