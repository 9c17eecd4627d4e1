"""The model of the study, as a version that devices may train: 64 pixels, 64 hidden units, 10 classes."""

import functools
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from agent.federated.layout import Layout, layout_of
from agent.federated.step_file import read_step
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.train_step import OnnxTrainStep
from controller.federated.coordinator.parent import parents_parameters
from controller.train_step.build import TrainOptions, build_train_step, canonical
from protos.documents import sha256
from protos.manifest import Budgets, File, Manifest, Needs, Role, Semantic, Tensor
from simulations.study.digits import CLASSES, PIXELS

MODEL = "digits"
HIDDEN = 64
OPSET = 18
IR_VERSION = 10


@dataclass(frozen=True, slots=True)
class Version:
    """A version with its train step.

    Attributes:
        step_file: the train step, as ``controller.train_step`` builds it.
        step: the same in the runtime, for all devices of this process.
        initial: the parameters that a run begins with, as its coordinator takes them.
    """

    manifest: Manifest
    step_file: bytes
    step: OnnxTrainStep
    layout: Layout
    initial: bytes

    @property
    def step_sha256(self) -> str:
        """As the manifest names it."""
        return self.manifest.files[Role.TRAIN_STEP].sha256


@functools.lru_cache(maxsize=16)
def version(seed: int, *, proximal: bool) -> Version:
    """Nothing learnt yet: weights drawn from ``seed``. With ``proximal`` its step can do FedProx."""
    runtime = OnnxRuntime()
    model = canonical(_inference(seed), runtime)
    step = build_train_step(model, TrainOptions(proximal=proximal), runtime).graph
    file = read_step(step)
    manifest = Manifest(
        model=MODEL,
        version=1,
        release_counter=1,
        inputs=(_tensor("image", PIXELS),),
        outputs=(_tensor("logits", CLASSES),),
        files={Role.MODEL: _file(model), Role.TRAIN_STEP: _file(step)},
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=1.0, memory_bytes=1 << 28),
    )
    return Version(
        manifest=manifest,
        step_file=step,
        step=OnnxTrainStep(step, file),
        layout=layout_of(manifest, file.spec, file.classes),
        initial=parents_parameters(model, step),
    )


def _tensor(name: str, width: int) -> Tensor:
    return Tensor(name=name, dtype="FP32", shape=(-1, width), semantic=Semantic.NUMERIC)


def _file(data: bytes) -> File:
    return File(sha256=sha256(data), length=len(data))


def _inference(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    # He et al. 2015, for both layers.
    weights = {
        "w1": rng.normal(0, np.sqrt(2 / PIXELS), (PIXELS, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, CLASSES)),
        "b2": np.zeros(CLASSES),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["image", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
        ],
        "perceptron",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", PIXELS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(one.astype(np.float32), name) for name, one in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())
