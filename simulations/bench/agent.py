"""What the agent weighs, idle and at start, beside a bare process with the same model loaded."""

import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from simulations.bench.process import Activity, Weight, activities, weight
from simulations.bench.row import BenchRow
from simulations.bench.staged import load_note, publish_digits, staged
from simulations.demo.lookout import Lookout
from simulations.demo.operator import MODEL, Operator
from simulations.demo.processes import ProcessFailed
from simulations.demo.stage import Device, Stage

STARTS: Final = 5
START_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.005
SETTLE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 60.0  # one of each interval that an agent has by default
RESIDENT_MIB: Final = 90.0
CPU_PERCENT: Final = 0.5
FIRST_SECONDS: Final = 1.5

LIBRARIES: Final = (
    *("cryptography.x509", "google.protobuf.message_factory", "grpc.aio", "msgspec", "psutil"),
    *("securesystemslib.signer", "sqlite_utils", "tuf.api.metadata"),
    *("uvicorn.config", "uvicorn.protocols.http.h11_impl"),
)
"""What the agent imports of others, beside onnxruntime and numpy."""

REQUEST: Final = json.dumps(
    {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": [0.0] * 64}]}
)


def rows() -> list[BenchRow]:
    """Of an agent as it comes, enrolled, with digits installed and its link up."""
    with staged(1) as (stage, operator):
        model = _installed(stage, operator)
        device = stage.devices[0]
        installed = weight(device.daemon.pid)
        device.daemon.stop()
        # As it comes: the stage's own settings are in a hurry, and keep an agent busy.
        (device.home / "agent.toml").write_text(
            f"[serving]\nrest_port = {device.rest_port}\ngrpc_port = {device.grpc_port}\n"
        )
        ours, bare = [], []
        for _ in range(STARTS):
            ours.append(_agent_start(device))
            device.daemon.stop()
            with _bare(model) as (_, seconds):
                bare.append(seconds)
        found = [_first_row(ours, bare)]
        with _bare(model) as (alone, _), _bare(model, *LIBRARIES) as (libraries, _):
            _agent_start(device)
            Lookout(stage).wait("device online", Lookout(stage).online)
            threading.Event().wait(SETTLE_SECONDS)
            pids = [device.daemon.pid, alone.pid, libraries.pid]
            active = activities(pids, IDLE_SECONDS)
            weights = [weight(pid) for pid in pids]
        found += [
            *_weight_rows(weights[0], weights[1]),
            _libraries_row(weights[0], weights[2]),
            _installed_row(installed, weights[0]),
            _cpu_row(active[0], active[1]),
        ]
        return found


def _installed(stage: Stage, operator: Operator) -> Path:
    """The model's file, once the device has signed that it runs it."""
    stage.found()
    stage.enrol(stage.devices[0], "berlin")
    stage.devices[0].daemon.start()
    publish_digits(operator)
    operator.roll_out(1)
    return stage.folder / "models" / f"{MODEL}-1.onnx"


def _agent_start(device: Device) -> float:
    """Seconds from the start of the process to its first answer to a prediction."""
    began = time.monotonic()
    device.daemon.start()
    while not _answers(device.rest_port):
        if not device.daemon.running() or time.monotonic() - began > START_SECONDS:
            raise ProcessFailed(f"the agent does not answer\n{device.daemon.last_words()}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    with suppress(OSError, http.client.HTTPException):
        connection.request("POST", f"/v2/models/{MODEL}/infer", REQUEST)
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


@contextmanager
def _bare(model: Path, *libraries: str) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    """The bare process, with ``libraries`` if any, and seconds from its start to its inference."""
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "simulations.bench.bare_runtime", str(model), *libraries],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise ProcessFailed("the bare process did not start")
        yield process, time.monotonic() - began
    finally:
        process.communicate()


def _first_row(ours: list[float], bare: list[float]) -> BenchRow:
    middle, alone = statistics.median(ours), statistics.median(bare)
    return BenchRow(
        "agent: start to first inference",
        middle,
        "s",
        FIRST_SECONDS,
        f"{middle / alone:.1f} x a process with onnxruntime alone ({alone:.2f} s)",
        f"median of {STARTS} starts, slowest {max(ours):.2f} s; over REST; {load_note()}",
    )


def _weight_rows(ours: Weight, bare: Weight) -> list[BenchRow]:
    named = (
        ("resident", ours.resident, bare.resident, RESIDENT_MIB),
        ("proportional", ours.proportional, bare.proportional, None),
        ("unique", ours.unique, bare.unique, None),
    )
    return [
        BenchRow(
            f"agent: idle memory, {name}",
            value,
            "MiB",
            target,
            f"{value / alone:.2f} x onnxruntime and numpy with the same model ({alone:.1f} MiB)",
            f"after {IDLE_SECONDS:.0f} s idle: digits loaded, gRPC link up; "
            f"{ours.code:.0f} MiB are pages of files",
        )
        for name, value, alone, target in named
    ]


def _libraries_row(ours: Weight, libraries: Weight) -> BenchRow:
    return BenchRow(
        "agent: idle memory over its libraries",
        ours.resident - libraries.resident,
        "MiB",
        None,
        f"{ours.resident / libraries.resident:.2f} x a process that only imports them all and has "
        f"loaded the model ({libraries.resident:.1f} MiB)",
        "the agent's own code, its servers, TLS and what it knows",
    )


def _installed_row(installed: Weight, restarted: Weight) -> BenchRow:
    return BenchRow(
        "agent: memory right after an install",
        installed.resident,
        "MiB",
        None,
        f"{installed.resident / restarted.resident:.2f} x the same after a restart",
        "the process that fetched, verified, tested and switched",
    )


def _cpu_row(ours: Activity, bare: Activity) -> BenchRow:
    return BenchRow(
        "agent: idle CPU",
        100 * ours.share,
        "%",
        CPU_PERCENT,
        f"{100 * (ours.share - bare.share):.3f} points over the bare process, which sleeps",
        f"{ours.wakes:.1f} wakes/s of all threads over {IDLE_SECONDS:.0f} s; {load_note()}",
    )
