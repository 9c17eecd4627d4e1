"""Opens a batch that an exporter fixed at 1, as is common for devices."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, numpy_helper

from agent.inference.datatypes import Array
from agent.runtimes.runtime import Runtime
from controller.train_step.errors import FixedBatch, NotConvertible
from controller.train_step.execution import dimensions, run_once
from controller.train_step.graph import drop, initializers, is_standard, model_inputs
from controller.train_step.shapes import example

_ROWS: Final = 3
_TOLERANCE: Final = 1e-4


def with_open_batch(model: ModelProto, runtime: Runtime) -> ModelProto:
    """The model with an open first axis; itself if that is open.

    Raises:
        FixedBatch: its answers to several rows at once would not be those to each alone.
    """
    inputs = model_inputs(model.graph)
    fixed = [one for one in inputs if dimensions(one)[:1] == [1]]
    if not fixed:
        return model
    if len(fixed) != len(inputs) or not _all_batched(model.graph.output):
        raise FixedBatch("its inputs have a batch of 1, and other tensors have none")
    opened = ModelProto()
    opened.CopyFrom(model)
    graph = opened.graph
    for value in (*model_inputs(graph), *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    weights = initializers(graph)
    for node in graph.node:
        if is_standard(node, "Reshape") and node.input[1] in weights:
            _open_reshape(graph, node, numpy_helper.to_array(weights[node.input[1]]))
    _compare(model, opened, runtime)
    return opened


def _all_batched(outputs: Iterable[ValueInfoProto]) -> bool:
    return all(
        one.type.tensor_type.HasField("shape") and dimensions(one)[:1] in ([1], ["batch"])
        for one in outputs
    )


def _open_reshape(graph: GraphProto, node: NodeProto, shape: Array) -> None:
    """Lets the first axis of the shape that it gives follow the batch."""
    if len(shape) < 2 or shape[0] != 1:
        return
    opened = shape.copy()
    opened[0] = 0 if -1 in opened else -1  # 0 is as long as the input's
    name = f"{node.input[1]}__{node.output[0]}"
    graph.initializer.append(numpy_helper.from_array(opened, name))
    node.input[1] = name
    drop(node.attribute, lambda one: one.name == "allowzero")


def _compare(model: ModelProto, opened: ModelProto, runtime: Runtime) -> None:
    """Row by row against the original."""
    inputs = model_inputs(model.graph)
    feed = {}
    for value in inputs:
        shape = [1 if isinstance(one, str) else one for one in dimensions(value)[1:]]
        feed[value.name] = example(value, [_ROWS, *shape])
    rows = [{name: array[row : row + 1] for name, array in feed.items()} for row in range(_ROWS)]
    wanted = [one.name for one in model.graph.output]
    alone = run_once(runtime, model, rows, wanted)
    try:
        (together,) = run_once(runtime, opened, [feed], wanted)
    except NotConvertible as error:
        raise FixedBatch(f"opened, the model can't be run: {error.detail}") from error
    for name, found in together.items():
        expected = np.concatenate([one[name] for one in alone])
        same = expected.shape == found.shape and np.allclose(expected, found, atol=_TOLERANCE)
        if not same:
            raise FixedBatch(f"output {name!r} of several rows at once is another than of each")
