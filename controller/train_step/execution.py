"""Runs a graph with the runtime that devices use."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper

from agent.errors import AgentError
from agent.inference.datatypes import Array, datatype_of
from agent.runtimes.runtime import LoadedModel, Runtime
from controller.train_step.errors import NotConvertible
from controller.train_step.graph import elem_type, model_inputs
from protos.manifest import Budgets, Manifest, Needs, Semantic, Tensor

Feed = Mapping[str, Array]


def load(runtime: Runtime, model: ModelProto) -> LoadedModel:
    """The model in memory, for the caller to close.

    Raises:
        NotConvertible: the runtime can't load it; says why.
    """
    manifest = Manifest(
        model="train-step",
        version=1,
        release_counter=1,
        inputs=tuple(_tensor(one) for one in model_inputs(model.graph)),
        outputs=(),
        files={},
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=0.0, memory_bytes=0),
    )
    try:
        return runtime.load(model.SerializeToString(), manifest)
    except AgentError as error:
        raise NotConvertible(f"{runtime.name} can't load the graph: {error.detail}") from error


def run(loaded: LoadedModel, feed: Feed, outputs: Sequence[str]) -> dict[str, Array]:
    """The outputs by name; those that are no tensors are left out.

    Raises:
        NotConvertible: the runtime failed; says why.
    """
    try:
        # A scalar must be an array without axes: the runtime takes no numpy scalar.
        found = loaded.run({name: np.asarray(one) for name, one in feed.items()}, outputs)
    except AgentError as error:
        raise NotConvertible(f"the graph can't be run: {error.detail}") from error
    given: Iterable[tuple[str, object]] = zip(outputs, found, strict=True)
    return {name: value for name, value in given if isinstance(value, np.ndarray)}


def run_once(
    runtime: Runtime, model: ModelProto, feeds: Sequence[Feed], outputs: Sequence[str]
) -> list[dict[str, Array]]:
    """The outputs for each feed, of a model that is loaded for that alone.

    Raises:
        NotConvertible: the runtime can't load or run it; says why.
    """
    with closing(load(runtime, model)) as loaded:
        return [run(loaded, feed, outputs) for feed in feeds]


def dimensions(value: ValueInfoProto) -> list[int | str]:
    """Lengths of its axes; an open one by its name, which is empty if it has none."""
    return [
        int(one.dim_value) if one.HasField("dim_value") else str(one.dim_param)
        for one in value.type.tensor_type.shape.dim
    ]


def _tensor(value: ValueInfoProto) -> Tensor:
    return Tensor(
        name=value.name,
        dtype=datatype_of(helper.tensor_dtype_to_np_dtype(elem_type(value))),
        shape=tuple(one if isinstance(one, int) else -1 for one in dimensions(value)),
        semantic=Semantic.OPAQUE,
    )
