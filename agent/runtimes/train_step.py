"""A train-step graph in ONNX Runtime. onnxruntime is imported when a step is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from agent.federated.errors import StepRefused
from agent.federated.step_file import StepFile
from agent.runtimes.onnx import FATAL, library, library_errors
from protos.train_step import (
    LEARNING_RATE,
    LOSS,
    MOMENTUM,
    OUTPUT,
    PROXIMAL,
    SAMPLE_WEIGHT,
    TARGET,
    Loss,
    Optimizer,
    TrainStepSpec,
    anchor_of,
    momentum_of,
    next_momentum_of,
    next_of,
)

Array = NDArray[Any]


class OnnxTrainStep:
    """See ``agent.federated.local_training.Step``.

    Args:
        data: the file, which ``agent.federated.step_file`` has looked through.
        threads: that compute one step.

    Raises:
        StepRefused: onnxruntime can't run it, or its inputs and outputs are not what it says.
    """

    def __init__(self, data: bytes, file: StepFile, threads: int = 1) -> None:
        ort = library()
        ort.set_default_logger_severity(FATAL)
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The arena stays on: without it a step takes up to 1.6 times as long, and the process ends soon.
        self._errors = library_errors(ort)
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except self._errors as error:
            raise StepRefused(f"training step: {error}") from error
        self.spec, self.classes = file.spec, file.classes
        inputs = {one.name for one in self._session.get_inputs()}
        outputs = {one.name for one in self._session.get_outputs()}
        wanted_inputs, wanted_outputs = _ends(file.spec)
        odd = sorted((inputs ^ wanted_inputs) | (wanted_outputs - outputs))
        if odd:
            raise StepRefused(f"training step: it does not go with its description: {odd[0]!r}")

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> Sequence[Array]:
        """The named outputs.

        Raises:
            StepRefused: the runtime failed.
        """
        try:
            found: list[Array] = self._session.run(outputs, feeds)
        except self._errors as error:
            raise StepRefused(f"training step: {error}") from error
        return found


def _ends(spec: TrainStepSpec) -> tuple[set[str], set[str]]:
    """Names of all inputs, and of the outputs that a step must have."""
    names = [one.name for one in spec.parameters]
    inputs = {*names, *spec.inputs, LEARNING_RATE}
    outputs = {LOSS, OUTPUT, *map(next_of, names)}
    if spec.loss is not Loss.RECONSTRUCTION:
        inputs.add(TARGET)
    if spec.sample_weight:
        inputs.add(SAMPLE_WEIGHT)
    if spec.optimizer is Optimizer.MOMENTUM:
        inputs |= {MOMENTUM, *map(momentum_of, names)}
        outputs |= set(map(next_momentum_of, names))
    if spec.proximal:
        inputs |= {PROXIMAL, *map(anchor_of, names)}
    return inputs, outputs
