"""What answering costs over the bare runtime, and what a request notices of a switch."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from agent.inference.actions import Deployments, infer
from agent.inference.golden import Golden, Tolerance, encode
from agent.install.record import Deployed
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.runtime import Tensors
from agent.serving.grpc_server import GrpcServer
from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from protos.documents import sha256
from protos.limits import MIB
from protos.manifest import Budgets, File, Manifest, Needs, Role, Semantic, Tensor
from simulations.bench.row import BenchRow

FEATURES: Final = 64
HIDDEN: Final = 256
CLASSES: Final = 10
CALLS: Final = 3000
REQUESTS: Final = 1500
SWITCHES: Final = 40
PAUSE_SECONDS: Final = 0.02
SWITCH_TARGET_MS: Final = 1.0
SHAPE_NOTE: Final = f"MLP {FEATURES}-{HIDDEN}-{CLASSES}, batch 1, client in a process of its own"

Span = tuple[float, float]


class _Unwatched:
    """Sees requests and does nothing: what the monitor costs is a row of its own."""

    def observe(self, inputs: Tensors, outputs: Tensors) -> None:
        """Nothing."""


Hosting = Deployments[_Unwatched, bytes]


def rows() -> list[BenchRow]:
    """Measured in one run, each beside the bare onnxruntime call."""
    return asyncio.run(_rows())


async def _rows() -> list[BenchRow]:
    blobs: dict[str, bytes] = {}
    versions = [_version(number, blobs) for number in (1, 2)]
    hosting: Hosting = Deployments(
        {"onnxruntime": OnnxRuntime()}, blobs.__getitem__, bytes, lambda _: _Unwatched()
    )
    await _switch(hosting, versions[0])
    workers = Workers(threads=2)
    rest, grpc = RestServer(hosting, workers), GrpcServer(hosting, workers)
    ports = {
        "rest-json": await rest.start("127.0.0.1", 0),
        "grpc": await grpc.start("127.0.0.1", 0),
    }
    ports["rest-binary"] = ports["rest-json"]
    try:
        bare, inside = _in_process(hosting, blobs[versions[0].files[Role.MODEL].sha256])
        found = [_inside_row(bare, inside)]
        for kind, title in (
            ("rest-json", "REST, JSON"),
            ("rest-binary", "REST, binary tensors"),
            ("grpc", "gRPC"),
        ):
            found.append(_remote_row(title, bare, await _asked(kind, ports[kind])))
        found += await _switching(hosting, versions, ports["rest-binary"])
    finally:
        await rest.stop()
        await grpc.stop()
        workers.close()
        hosting.close()
    return found


# --- The model --------------------------------------------------------------------------------------


def _version(number: int, blobs: dict[str, bytes]) -> Manifest:
    model = _mlp(number)
    x = np.ones((1, FEATURES), np.float32)
    y = OnnxRuntimeAlone(model)(x)
    golden = encode(Golden({"x": x}, {"y": y}, {"y": Tolerance(1e-6)}))
    files = {
        Role.MODEL: model,
        Role.GOLDEN: golden,
        Role.REFERENCE: b"none",
        Role.CARD: b"none",
    }
    blobs.update({sha256(data): data for data in files.values()})
    return Manifest(
        model="bench",
        version=number,
        release_counter=number,
        inputs=(_tensor("x", FEATURES),),
        outputs=(_tensor("y", CLASSES),),
        files={role: File(sha256=sha256(data), length=len(data)) for role, data in files.items()},
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=1.0, memory_bytes=64 * MIB),
    )


def _tensor(name: str, length: int) -> Tensor:
    return Tensor(name=name, dtype="FP32", shape=(-1, length), semantic=Semantic.NUMERIC)


def _mlp(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(size=(FEATURES, HIDDEN)).astype(np.float32),
        "w2": rng.normal(size=(HIDDEN, CLASSES)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w2"], ["c"]),
            helper.make_node("Softmax", ["c"], ["y"]),
        ],
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class OnnxRuntimeAlone:
    """The bare thing: a session with the agent's number of threads, and its ``run``."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, x: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """``y`` of ``x``."""
        y: np.ndarray[tuple[int, int], np.dtype[np.float32]] = self._session.run(["y"], {"x": x})[0]
        return y


# --- One request ------------------------------------------------------------------------------------


def _in_process(hosting: Hosting, model: bytes) -> tuple[float, float]:
    """Seconds of the bare call and of ``infer``: the fastest of five turns each, taken in turn."""
    x = np.ones((1, FEATURES), np.float32)
    alone = OnnxRuntimeAlone(model)
    bare = inside = float("inf")
    for _ in range(5):
        bare = min(bare, _seconds_each(lambda: alone(x)))
        inside = min(inside, _seconds_each(lambda: infer(hosting, "bench", None, {"x": x})))
    return bare, inside


def _seconds_each(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - began) / CALLS


def _inside_row(bare: float, inside: float) -> BenchRow:
    return BenchRow(
        "infer in process, unwatched",
        inside * 1e6,
        "µs",
        None,
        f"{inside / bare:.2f} x onnxruntime alone",
        f"{(inside - bare) * 1e6:.1f} µs over it: checks, counts, one reference",
    )


def _remote_row(title: str, bare: float, spans: Sequence[Span]) -> BenchRow:
    middle = float(np.median([end - began for began, end in spans]))
    return BenchRow(
        f"infer over {title}, median",
        middle * 1e6,
        "µs",
        None,
        f"{middle / bare:.1f} x onnxruntime alone",
        SHAPE_NOTE,
    )


async def _client(kind: str, port: int, requests: int) -> Process:
    """A client that is warm and asking."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulations.bench.inference_client"),
        *(kind, str(port), str(FEATURES), str(requests)),
        stdin=PIPE,
        stdout=PIPE,
        limit=64 * MIB,
    )
    if client.stdout is None or await client.stdout.readline() != b"ready\n":
        raise RuntimeError(f"the {kind} client did not start")
    return client


async def _asked(kind: str, port: int) -> list[Span]:
    return await _spans(await _client(kind, port, REQUESTS))


async def _spans(client: Process) -> list[Span]:
    output, _ = await client.communicate(b"")  # which closes its stdin
    if client.returncode:
        raise RuntimeError("a request failed; the client said why")
    spans: list[Span] = [(began, end) for began, end in json.loads(output)]
    return spans


# --- The switch -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Switch:
    """When one version was loaded, and when it was exchanged for the one before."""

    loading: Span
    exchange: Span


async def _switch(hosting: Hosting, manifest: Manifest) -> _Switch:
    digest = manifest.files[Role.MODEL].sha256
    deployed = Deployed("bench", manifest.version, manifest.digest, digest, manifest.version, 1)
    loading = time.monotonic()
    await hosting.prepare(deployed, manifest)
    loaded = time.monotonic()
    await asyncio.sleep(PAUSE_SECONDS)  # so that no request crosses the loading and the exchange
    exchanging = time.monotonic()
    hosting.activate("bench", "champion")
    hosting.release_previous("bench", "champion")
    exchanged = time.monotonic()
    await asyncio.sleep(PAUSE_SECONDS)
    return _Switch((loading, loaded), (exchanging, exchanged))


def _longest(requests: Sequence[Span], spans: Sequence[Span]) -> float:
    """Seconds of the longest request that was under way during one of ``spans``."""
    return max(
        (
            end - began
            for began, end in requests
            if any(began <= until and since <= end for since, until in spans)
        ),
        default=0.0,
    )


async def _switching(hosting: Hosting, versions: Sequence[Manifest], port: int) -> list[BenchRow]:
    usual = [end - began for began, end in await _asked("rest-binary", port)]
    p99 = float(np.quantile(usual, 0.99))
    client = await _client("rest-binary", port, 0)
    switches = [await _switch(hosting, versions[(turn + 1) % 2]) for turn in range(SWITCHES)]
    requests = await _spans(client)
    crossing = _longest(requests, [one.exchange for one in switches])
    beside = _longest(requests, [one.loading for one in switches])
    exchange = max(until - since for since, until in (one.exchange for one in switches))
    return [
        BenchRow(
            "switch: longest request across one, over the usual p99",
            max(0.0, crossing - p99) * 1e3,
            "ms",
            SWITCH_TARGET_MS,
            f"{crossing / p99:.2f} x the usual p99 of {p99 * 1e3:.2f} ms",
            f"{SWITCHES} switches under load over REST, {len(requests)} requests, none failed; "
            f"the exchange took {exchange * 1e6:.0f} µs at most",
        ),
        BenchRow(
            "switch: longest request while the next version loads",
            beside * 1e3,
            "ms",
            None,
            f"{beside / max(usual):.2f} x the longest of as many without",
            "loading shares the interpreter with the requests",
        ),
    ]
