"""What watching costs: for each prediction, over the bare onnxruntime call; and at registration."""

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.monitor.observer import Observer
from agent.monitor.reference import Reference
from agent.monitor.verdict import judge
from controller.monitor.registration import build_reference
from protos.manifest import Semantic, Tensor
from simulations.bench.row import BenchRow
from simulations.demo import digits

FEATURES: Final = 32
REFERENCE_ROWS: Final = 5000
CALLS: Final = 4096
REPEATS: Final = 7

Run = Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]


def rows() -> list[BenchRow]:
    """Cost a prediction at batch 1 and 32, cost of a verdict, and time to register digits."""
    run = _classifier()
    reference = _reference(run)
    found = [_per_prediction(run, reference, batch) for batch in (1, 32)]
    return [*found, _verdict(run, reference), _registration()]


def _classifier() -> Run:
    """A small real model: 32 features, softmax over 10 classes."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(FEATURES, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["p"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda x: {"p": session.run(["p"], {"x": x})[0]}


def _reference(run: Run) -> Reference:
    data = np.random.default_rng(2).normal(size=(REFERENCE_ROWS, FEATURES)).astype(np.float32)
    x = Tensor(name="x", dtype="FP32", shape=(-1, FEATURES), semantic=Semantic.NUMERIC)
    p = Tensor(name="p", dtype="FP32", shape=(-1, 10), semantic=Semantic.PROBABILITY)
    return build_reference((x,), (p,), {"x": data}, run(data), np.random.default_rng(3))


def _per_prediction(run: Run, reference: Reference, batch: int) -> BenchRow:
    rng = np.random.default_rng(4)
    requests = [
        rng.normal(size=(batch, FEATURES)).astype(np.float32) for _ in range(CALLS // batch)
    ]
    answers = [run(x) for x in requests]
    observer = Observer(reference)

    def bare() -> None:
        for x in requests:
            run(x)

    def watched() -> None:
        for x, answer in zip(requests, answers, strict=True):
            observer.observe({"x": x}, answer)
        observer.drain()

    alone = _best(bare) / CALLS
    cost = _best(watched) / CALLS
    return BenchRow(
        name=f"monitor a prediction, {FEATURES} features, batch {batch}",
        value=cost * 1e6,
        unit="µs",
        target=5.0 if batch == 1 else 2.0,
        ratio=f"onnxruntime alone takes {alone * 1e6:.2f} µs: + {100 * cost / alone:.0f} %",
        note=f"counting included: {FEATURES + 2} series of 32 bins",
    )


def _verdict(run: Run, reference: Reference) -> BenchRow:
    x = np.random.default_rng(5).normal(size=(300, FEATURES)).astype(np.float32)
    observer = Observer(reference)
    observer.observe({"x": x}, run(x))
    counts = observer.drain()
    seconds = _best(lambda: judge(reference, counts))
    return BenchRow(
        name="verdict over a window of 300", value=seconds * 1e3, unit="ms", target=None
    )


def _registration() -> BenchRow:
    images = digits.load().train_images
    image = Tensor(name="image", dtype="FP32", shape=(-1, 8, 8), semantic=Semantic.IMAGE)
    started = time.perf_counter()
    reference = build_reference((image,), (), {"image": images}, {}, np.random.default_rng(6))
    return BenchRow(
        name="profile and thresholds of digits, at registration",
        value=time.perf_counter() - started,
        unit="s",
        target=10.0,
        note=f"{len(reference.series)} series, {len(reference.encode()) / 1024:.0f} KiB",
    )


def _best(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best
