"""The demo's classifier, as converters write it, is one that devices can train."""

import numpy as np

from agent.runtimes.onnx import OnnxRuntime
from controller.candidate.grid import rounded
from controller.candidate.model import parameters_of, stepped
from controller.registry.onnx_file import read_onnx
from controller.registry.signature import infer
from controller.registry.training import Shown, Training, train_step
from controller.registry.trial import Subject, load
from controller.train_step.canonical import canonical
from protos.train_step import Loss
from simulations.demo import digits


def test_devices_can_train_it_and_fetch_an_eighth_of_what_came_of_it() -> None:
    data, runtime = digits.load(), OnnxRuntime()
    original = digits.train(data, 2).onnx
    model = canonical(original, runtime)
    onnx = read_onnx(model)
    loaded = load(runtime, Subject("digits", "digits.onnx", model, onnx))
    names = [one.name for one in onnx.outputs]
    inputs = {"image": data.holdout_images}
    outputs = dict(zip(names, loaded.run(inputs, names), strict=True))
    loaded.close()
    shown = Shown(original, model, infer(onnx, inputs, outputs, {}), inputs, outputs)

    spec = train_step(Training(trainable="all"), shown, runtime, np.random.default_rng(1)).spec

    assert (spec.loss, spec.classes) == (Loss.SOFTMAX_CROSS_ENTROPY, ())
    assert sum(int(np.prod(one.shape)) for one in spec.parameters) == 64 * 64 + 64 + 64 * 10 + 10
    parent = parameters_of(model, {one.name: one.shape for one in spec.parameters})
    noise = np.random.default_rng(2)
    trained = {
        name: array + noise.normal(0, 0.1, array.shape).astype(np.float32)
        for name, array in parent.items()
    }
    made = stepped(model, trained)
    assert made.share <= 0.13
    shapes = {name: array.shape for name, array in parent.items()}
    shipped = rounded(parent, trained)
    for name, array in parameters_of(made.onnx, shapes).items():
        assert array.tobytes() == shipped[name].tobytes()
