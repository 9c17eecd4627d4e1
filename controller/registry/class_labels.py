"""Which label each column of a classifier's output stands for: devices are told truths as labels."""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from agent.inference.datatypes import Array
from agent.runtimes.runtime import Tensors
from controller.registry.signature import Signature
from controller.train_step.errors import NotTrainable
from controller.train_step.graph import ancestors
from protos.manifest import Semantic

Labels = tuple[int | str, ...]


class UnknownLabels(NotTrainable):
    """The model answers with labels, and which column is which can't be told."""

    code = "unknown-labels"
    remedy = (
        "Give reference data for which the model answers each of its labels, or name the output."
    )


def class_labels(model: bytes, output: str, signature: Signature, outputs: Tensors) -> Labels:
    """The labels in the order of the columns of ``output``; empty if they are the columns' numbers.

    They stand in the file where the label is looked up by the number of the best column (as skl2onnx
    writes it); where they do not, every label must occur in ``outputs``, those of the reference.

    Raises:
        UnknownLabels: one does not.
    """
    label, columns = signature.first(Semantic.LABEL), outputs.get(output)
    if label is None or columns is None or columns.ndim != 2:
        return ()
    count = columns.shape[1]
    seen = _seen(columns.argmax(axis=1), outputs[label.name].reshape(-1))
    tables = (one for one in _tables(model, label.name) if len(one) == count)
    labels = next((one for one in tables if _agree(one, seen)), None)
    if labels is None and seen is not None and len(seen) == count:
        labels = tuple(seen[column] for column in range(count))
    if labels is None and seen is not None and all(one == of for of, one in seen.items()):
        return ()
    if labels is None:
        raise UnknownLabels(
            f"output {label.name!r} has labels that do not follow from the columns of {output!r}"
        )
    return () if labels == tuple(range(count)) else labels


def _seen(best: Array, labels: Array) -> dict[int, int | str] | None:
    """The label of each column that was best; None where one column had two."""
    found: dict[int, int | str] = {}
    for column, label in zip(best.tolist(), labels.tolist(), strict=True):
        if found.setdefault(column, label) != label:
            return None
    return found


def _agree(labels: Labels, seen: dict[int, int | str] | None) -> bool:
    return seen is not None and all(labels[column] == label for column, label in seen.items())


def _tables(model: bytes, label: str) -> Iterator[Labels]:
    """Whole numbers and texts, each once, from which something of the label is looked up."""
    graph = ModelProto.FromString(model).graph
    tensors = {one.name: one for one in graph.initializer}
    for node in ancestors(graph, [label]):
        if node.op_type in {"Gather", "ArrayFeatureExtractor"} and node.input[0] in tensors:
            yield from _table(tensors[node.input[0]])
        yield from _attributes(node)


def _table(tensor: TensorProto) -> Iterator[Labels]:
    if tensor.data_type == TensorProto.STRING:
        yield tuple(one.decode("utf-8", "replace") for one in tensor.string_data)
    elif tensor.data_type in {TensorProto.INT64, TensorProto.INT32}:
        values = numpy_helper.to_array(tensor).reshape(-1)
        if len(np.unique(values)) == len(values):
            yield tuple(int(one) for one in values)


def _attributes(node: NodeProto) -> Iterator[Labels]:
    for attribute in node.attribute:
        if attribute.name == "classlabels_ints":
            yield tuple(int(one) for one in attribute.ints)
        elif attribute.name == "classlabels_strings":
            yield tuple(one.decode("utf-8", "replace") for one in attribute.strings)
