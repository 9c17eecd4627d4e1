"""Small models that learn, with their training steps, and examples to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from onnx import TensorProto, helper

from agent.federated.examples import ExampleStore, examples_of
from agent.federated.layout import Layout, layout_of, packed
from agent.federated.parameters import Float32s
from agent.federated.retention import Retention
from agent.federated.step_file import read_step
from agent.inference.golden import Golden, encode
from agent.runtimes.onnx import OnnxRuntime
from controller.train_step.build import (
    TrainOptions,
    build_train_step,
    canonical,
    parameters_of,
)
from protos.documents import sha256
from protos.manifest import File, Manifest, Role
from protos.train_step import Loss, TrainStepSpec
from tests.agent.onnx_models import manifest_of, model_bytes, tensor

FEATURES, CLASSES = 4, 3
GOLDEN = encode(Golden({"x": np.zeros((1, FEATURES), np.float32)}, {}, {}))
HALF = Retention(hold_out=0.25)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Learner:
    """A version that can be trained, its files, and its parameters as registered."""

    manifest: Manifest
    model: bytes
    step: bytes
    parameters: dict[str, Float32s]

    @property
    def spec(self) -> TrainStepSpec:
        return read_step(self.step).spec

    @property
    def layout(self) -> Layout:
        file = read_step(self.step)
        return layout_of(self.manifest, file.spec, file.classes)

    @property
    def blobs(self) -> dict[str, bytes]:
        return {sha256(one): one for one in (self.model, self.step, GOLDEN, b"")}


def classifier(hidden: int = 8, **options: Any) -> Learner:
    """``x`` of 4 features to the ``logits`` of 3 classes, by way of one hidden layer."""
    rng = np.random.default_rng(1)
    weights: list[tuple[str, Floats]] = [
        ("w1", rng.standard_normal((FEATURES, hidden)).astype(np.float32) * np.float32(0.5)),
        ("b1", np.zeros(hidden, np.float32)),
        ("w2", rng.standard_normal((hidden, CLASSES)).astype(np.float32) * np.float32(0.5)),
        ("b2", np.zeros(CLASSES, np.float32)),
    ]
    model = model_bytes(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        weights,
    )
    return _learner(model, tensor("logits", "FP32", -1, CLASSES), options)


def linear(outputs: int = 1, **options: Any) -> Learner:
    """``x`` of 4 features to ``y``, which is as wide as asked for."""
    model = model_bytes(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [("y", TensorProto.FLOAT, ["batch", outputs])],
        [
            ("w", np.full((FEATURES, outputs), 0.1, np.float32)),
            ("b", np.zeros(outputs, np.float32)),
        ],
    )
    options.setdefault("loss", Loss.MSE)
    return _learner(model, tensor("y", "FP32", -1, outputs), options)


def _learner(model: bytes, output: Any, options: dict[str, Any]) -> Learner:
    runtime = OnnxRuntime()
    ready = canonical(model, runtime)
    step = build_train_step(ready, TrainOptions(**options), runtime)
    manifest = with_step(
        manifest_of(
            ready, [tensor("x", "FP32", -1, FEATURES)], [output], name="learner", golden=GOLDEN
        ),
        step.graph,
    )
    names = [one.name for one in step.spec.parameters]
    return Learner(manifest, ready, step.graph, dict(parameters_of(ready, names)))


def with_step(manifest: Manifest, step: bytes) -> Manifest:
    """The manifest with another training step."""
    listed = File(sha256=sha256(step), length=len(step))
    return replace(manifest, files={**manifest.files, Role.TRAIN_STEP: listed})


def clouds(rows: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Rows about three centres, and which they belong to."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, rows)
    centres = np.eye(CLASSES, FEATURES, dtype=np.float32) * 3
    return centres[truth] + rng.standard_normal((rows, FEATURES)).astype(np.float32), truth


def keep(
    store: ExampleStore,
    learner: Learner,
    x: Floats,
    truth: Sequence[float] | NDArray[Any] | None,
    source: str = "test",
) -> None:
    """Adds the rows to what the device has of the model."""
    rows = packed(learner.layout, {"x": x}, None if truth is None else np.asarray(truth))
    store.add(
        learner.manifest.model, learner.layout, examples_of(learner.layout, rows, HALF, 1.0, source)
    )
