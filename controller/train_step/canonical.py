"""The canonical inference model: the one that is shipped, versioned, and differentiated.

Names, ties and folded constants then agree on both sides, and a later version is the same file with
other bytes in the ranges of its parameters.
"""

from collections.abc import Mapping
from typing import Final

import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from agent.runtimes.runtime import Runtime
from controller.onnx_graph import OPERATOR_DOMAINS
from controller.train_step.batch import with_open_batch
from controller.train_step.errors import NotConvertible
from controller.train_step.folding import fold, lift_constants
from controller.train_step.graph import FLOATS, drop, initializers, minimal_ir_version, opset
from controller.train_step.linear_models import lower_linear_models

OPSET: Final = 18  # the first in which every form that is emitted is valid


def canonical(model: bytes, runtime: Runtime) -> bytes:
    """The equivalent model from which train steps are built; the same bytes each time.

    Operator set 18 or newer; linear models of ai.onnx.ml as Gemm; constants as initializers; what
    depends on constants alone computed; vectors that an exporter shared, because they were equal,
    apart again; a batch fixed at 1 open; every weight as raw bytes.

    Raises:
        NotConvertible: it can't be brought into that form; says why.
        FixedBatch: its batch is fixed and can't be opened.
    """
    made = _lifted(ModelProto.FromString(model))
    graph = made.graph
    weights = initializers(graph)
    drop(graph.input, lambda one: one.name in weights)  # listed there before IR version 4
    lift_constants(graph)
    fold(made)
    _untie_vectors(graph)
    graph.ClearField("value_info")  # tells of shapes that no longer hold
    made = with_open_batch(made, runtime)
    _store_raw(made.graph)
    _import_once(made)
    made.ir_version = minimal_ir_version(made)
    return bytes(made.SerializeToString(deterministic=True))


def _lifted(model: ModelProto) -> ModelProto:
    """Without linear models of ai.onnx.ml, in a new enough operator set."""
    lower_linear_models(model)
    if opset(model) == 0:
        model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    if opset(model) >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotConvertible(
            f"operator set {opset(model)} can't be lifted to {OPSET}: {error}"
        ) from error


def _import_once(model: ModelProto) -> None:
    """Each operator set that is used, once: converters name some twice."""
    used = {OPERATOR_DOMAINS.get(node.domain, node.domain) for node in model.graph.node}
    versions = {"": opset(model)}
    for one in model.opset_import:
        domain = OPERATOR_DOMAINS.get(one.domain, one.domain)
        if domain in used:
            versions.setdefault(domain, int(one.version))
    model.ClearField("opset_import")
    model.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()
    )


def _untie_vectors(graph: GraphProto) -> None:
    """A copy of each float vector for every further node that takes it.

    Exporters merge equal initializers: fresh normalizations, all ones, would be trained as one. A
    matrix that is shared is shared on purpose, as an embedding is.
    """
    vectors: Mapping[str, TensorProto] = {
        name: one
        for name, one in initializers(graph).items()
        if len(one.dims) == 1 and one.data_type in FLOATS
    }
    seen: set[str] = set()
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name not in vectors:
                continue
            if name in seen:
                copied = graph.initializer.add()
                copied.CopyFrom(vectors[name])
                copied.name = node.input[index] = f"{name}__{node.output[0]}"
            seen.add(node.input[index])


def _store_raw(graph: GraphProto) -> None:
    """Every float initializer as one range of bytes."""
    for tensor in graph.initializer:
        if tensor.data_type in FLOATS and not tensor.HasField("raw_data"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
