"""Made-up rows with which a build is tried."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from onnx import GraphProto, ModelProto

from agent.inference.datatypes import Array
from controller.train_step.execution import Feed, dimensions
from controller.train_step.graph import initializers, is_standard, model_inputs
from controller.train_step.losses import CLASSES
from controller.train_step.shapes import example
from protos.train_step import Loss

AXIS: Final = 11  # length of an open axis that is not the batch


def made_up_inputs(model: ModelProto, rows: int, rng: np.random.Generator) -> Feed:
    """Normal floats, and integers below the number of rows of the table that they index, else 0."""
    tables = _tables(model.graph)
    feed: dict[str, Array] = {}
    for value in model_inputs(model.graph):
        shape = [AXIS if isinstance(one, str) else one for one in dimensions(value)]
        blank = example(value, [rows, *shape[1:]])
        if blank.dtype.kind == "f":
            feed[value.name] = rng.standard_normal(blank.shape).astype(blank.dtype)
        elif value.name in tables and blank.dtype.kind in "iu":
            found = rng.integers(0, tables[value.name], blank.shape)
            feed[value.name] = found.astype(blank.dtype)
        else:
            feed[value.name] = blank
    return feed


def made_up_target(loss: Loss, output: Array, rng: np.random.Generator) -> Array:
    """Classes, yes or no, or numbers about one off the output: what the loss takes."""
    if loss in CLASSES:
        return np.asarray(rng.integers(0, output.shape[-1], output.shape[0]))
    if loss is Loss.BCE_WITH_LOGITS:
        return rng.integers(0, 2, output.shape).astype(np.float32)
    return (output + rng.standard_normal(output.shape)).astype(np.float32)


def _tables(graph: GraphProto) -> Mapping[str, int]:
    """How many rows there are for each input that indexes a constant table."""
    tensors = initializers(graph)
    found: dict[str, int] = {}
    for node in graph.node:
        if is_standard(node, "Gather") and node.input[0] in tensors:
            axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
            length = int(tensors[node.input[0]].dims[axis])
            found[node.input[1]] = min(length, found.get(node.input[1], length))
    return found
