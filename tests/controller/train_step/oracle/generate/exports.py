"""The seven models as exporters write them, each with the gradients of what the file has in it."""

import io
import warnings
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import torch  # type: ignore[import-not-found]
from onnx import numpy_helper

from tests.controller.train_step.oracle.generate import graph, models
from tests.controller.train_step.oracle.reference import Array, Reference

BATCH: Final = 8
EXACT: Final = 1e-6  # folding happens in float32


class Export(NamedTuple):
    """How a model is written.

    Attributes:
        dynamo: by the newer exporter, rather than by the older.
        folds: batch normalisation into the convolution before it.
        open_batch: whether the batch's size is left open, or is 1.
        open_length: whether that of a sequence is.
    """

    dynamo: bool = True
    opset: int = 18
    folds: bool = True
    open_batch: bool = True
    open_length: bool = False


def models_as_exported() -> Iterator[Reference]:
    """Every model at full size, and with its batch normalisation kept where it has one."""
    for name in models.KINDS:
        yield reference(name, Export())
    for name in ("convolutional 8x8", "convolutional 28x28", "mobile"):
        older = Export(dynamo=False, opset=17, folds=False)
        yield reference(name, older, "batch normalisation kept, older exporter")
        yield reference(name, Export(folds=False), "batch normalisation kept")
    for dynamo in (True, False):
        export = Export(dynamo=dynamo, opset=18 if dynamo else 17, open_length=True)
        title = "open length" if dynamo else "open length, older exporter"
        yield reference("transformer", export, title)


def opsets() -> Iterator[Reference]:
    """Four models in five operator sets."""
    for name in ("perceptron", "convolutional 8x8", "mobile", "transformer"):
        for opset in (11, 13, 16, 20, 23):
            export = Export(dynamo=opset > 18, opset=opset)
            yield reference(name, export, f"opset {opset}", small=True)


def fixed_batches() -> Iterator[Reference]:
    """Five models exported for one sample at a time, by both exporters."""
    for name in (
        "perceptron", "convolutional 28x28", "mobile", "autoencoder", "transformer",
    ):  # fmt: skip
        for dynamo in (True, False):
            export = Export(dynamo=dynamo, opset=18 if dynamo else 17, open_batch=False)
            title = f"batch of 1, {'newer' if dynamo else 'older'} exporter"
            yield reference(name, export, title, small=True)


def reference(name: str, export: Export, title: str = "", *, small: bool = False) -> Reference:
    """The model's file, and the gradients of its constants over a batch.

    The graph that PyTorch runs here is the file's. What it gives is compared with the model itself:
    the loss, and the gradient of every parameter that the exporter left alone.
    """
    kind = models.KINDS[name]
    model = models.made(name, small=small)
    x, target = models.batch(name, BATCH)
    written = exported(model, x, export)
    value, tensors = gradients(written, kind, x, target, 1 if not export.open_batch else BATCH)
    compare(written, model, kind.loss_of(model.double()(_double(x)), _double(x), target), tensors)
    return Reference(
        name=", ".join(filter(None, (name, title))),
        model=written,
        loss=kind.loss,
        inputs={"x": x.numpy()},
        target=target.numpy(),
        value=value,
        tensors=tensors,
    )


def exported(model: Any, x: Any, export: Export) -> bytes:
    """The ONNX file."""
    file = io.BytesIO()
    names = {"input_names": ["x"], "output_names": ["out"]}
    sample = x if export.open_batch else x[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if export.dynamo:
            axes = {0: torch.export.Dim("batch", min=1, max=4096)} if export.open_batch else {}
            if export.open_length:
                axes[1] = torch.export.Dim("length", min=2, max=x.shape[1])
            program = torch.onnx.export(
                model, (sample,), dynamo=True, opset_version=export.opset, verbose=False,
                optimize=export.folds, dynamic_shapes=(axes,) if axes else None, **names,
            )  # fmt: skip
            program.save(file, external_data=False)
        else:
            mode = torch.onnx.TrainingMode
            axes = {0: "batch"} if export.open_batch else {}
            if export.open_length:
                axes[1] = "length"
            torch.onnx.export(
                model, (sample,), file, dynamo=False, opset_version=export.opset,
                training=mode.EVAL if export.folds else mode.PRESERVE,
                do_constant_folding=export.folds,
                dynamic_axes={"x": axes, "out": {0: "batch"}} if axes else None, **names,
            )  # fmt: skip
    return _lean(file.getvalue())


def _lean(written: bytes) -> bytes:
    """The file without what exporters say of where each node came from."""
    model = onnx.load_from_string(written)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]
    del model.graph.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


def gradients(
    written: bytes, kind: models.Kind, x: Any, target: Any, at_a_time: int
) -> tuple[float, dict[str, Array]]:
    """The loss and its gradients, of the file's graph over as many samples as it takes at a time."""
    value, tensors = 0.0, dict[str, Array]()
    for first in range(0, BATCH, at_a_time):
        some = slice(first, first + at_a_time)
        output, fixed = graph.run(onnx.load_from_string(written), {"x": x[some]})
        loss = kind.loss_of(output, _double(x[some]), target[some]) * at_a_time / BATCH
        loss.backward()
        value += loss.item()
        for key, one in fixed.items():
            if one.grad is not None:
                tensors[key] = tensors.get(key, 0.0) + one.grad.numpy()
    return value, tensors


def compare(written: bytes, model: Any, loss: Any, tensors: dict[str, Array]) -> None:
    """Holds that the model has the same gradient where the file has a parameter as it was."""
    loss.backward()
    constants = {one.name: one for one in onnx.load_from_string(written).graph.initializer}
    for name, parameter in model.named_parameters():
        if name not in constants or name not in tensors:
            continue
        value = numpy_helper.to_array(constants[name])
        if np.array_equal(value, parameter.detach().numpy()):
            worst = np.abs(parameter.grad.numpy() - tensors[name]).max()
            assert worst <= EXACT * np.abs(tensors[name]).max(), (name, worst)


def _double(x: Any) -> Any:
    return x.double() if x.is_floating_point() else x
