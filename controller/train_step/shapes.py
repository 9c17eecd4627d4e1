"""Shapes of every tensor of a model, seen by running it at two sizes of its open axes.

An axis is then the pair of lengths that were observed, and equal pairs are the same axis. That is
more dependable than symbolic shape inference, which loses the batch behind a Reshape, and exact for
what the graph really computes.
"""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from agent.inference.datatypes import Array
from agent.runtimes.runtime import LoadedModel, Runtime
from controller.train_step.errors import NotConvertible
from controller.train_step.execution import Feed, dimensions, load, run
from controller.train_step.graph import elem_type, model_inputs

Axis = tuple[int, int]
Shape = tuple[Axis, ...]

_SIZES: Final = (5, 7)  # of the first open axis; of each further one six more
_APART: Final = 6
_PORTION: Final = 24  # tensors that are told at once
KEPT_ELEMENTS: Final = 2**16
_GOLDEN_RATIO: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen of each tensor, by name.

    Attributes:
        types: as in ``TensorProto``.
        values: of tensors of at most ``KEPT_ELEMENTS``, at the smaller size.
        fixed: integers that follow from shapes alone and were the same at both sizes.
    """

    shapes: Mapping[str, Shape]
    types: Mapping[str, int]
    values: Mapping[str, Array]
    fixed: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Tensors at one size: of the large ones only what they were like."""

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    values: dict[str, Array]

    def add(self, tensors: Feed) -> None:
        for name, value in tensors.items():
            self.shapes[name] = value.shape
            if value.dtype != np.object_:
                self.types[name] = int(helper.np_dtype_to_tensor_dtype(value.dtype))
            if value.size <= KEPT_ELEMENTS:
                self.values[name] = value


def probe(model: ModelProto, runtime: Runtime) -> Probe:
    """Every tensor of the model, its initializers included.

    Raises:
        NotConvertible: it can't be run at either size; says why.
    """
    small, large = _observations(model, runtime)
    initializers = {
        one.name: tuple((int(length), int(length)) for length in one.dims)
        for one in model.graph.initializer
    }
    shapes = {
        name: tuple(zip(shape, large.shapes[name], strict=True))
        for name, shape in small.shapes.items()
        if len(shape) == len(large.shapes.get(name, ()))
    }
    return Probe(
        shapes=shapes | initializers,
        types=small.types | {one.name: int(one.data_type) for one in model.graph.initializer},
        values=small.values,
        fixed=_fixed(model, small.values, large.values),
    )


def example(value: ValueInfoProto, shape: Sequence[int], offset: int = 0) -> NDArray[Any]:
    """A made-up input: floats spread over about two standard deviations, other types zero.

    The same each time, so that what is built is the same each time.
    """
    dtype = helper.tensor_dtype_to_np_dtype(elem_type(value))
    if dtype.kind != "f":
        return np.full(shape, "", np.object_) if dtype.kind == "O" else np.zeros(shape, dtype)
    count = int(np.prod(shape, dtype=np.int64))
    steps = np.arange(1 + offset, 1 + offset + count) * _GOLDEN_RATIO % 1.0
    return (4.0 * steps - 2.0).astype(dtype).reshape(shape)


def varies(axis: Axis) -> bool:
    """Whether its length depends on the batch or on another open axis."""
    return axis[0] != axis[1]


def _observations(model: ModelProto, runtime: Runtime) -> list[_Seen]:
    """Every tensor at both sizes."""
    whole = ModelProto()
    whole.CopyFrom(model)
    given = {one.name for one in whole.graph.output}
    inner = [name for node in whole.graph.node for name in node.output if name]
    whole.graph.output.extend(ValueInfoProto(name=name) for name in inner if name not in given)
    wanted = [one.name for one in whole.graph.output]
    with closing(load(runtime, whole)) as loaded:
        return [_observed(loaded, _feed(whole, base), wanted) for base in _SIZES]


def _observed(loaded: LoadedModel, feed: Feed, wanted: Sequence[str]) -> _Seen:
    """The tensors, told portion by portion: all of a large model may not fit into memory."""
    seen = _Seen({}, {}, {})
    seen.add(feed)
    for start in range(0, len(wanted), _PORTION):
        seen.add(run(loaded, feed, wanted[start : start + _PORTION]))
    return seen


def _feed(model: ModelProto, base: int) -> Feed:
    sizes: dict[str, int] = {}
    fresh = itertools.count(base, _APART)
    feed = {}
    for value in model_inputs(model.graph):
        if not value.type.tensor_type.HasField("shape"):
            raise NotConvertible(f"input {value.name!r} declares no shape")
        shape = []
        for one in dimensions(value):
            if isinstance(one, str) and one not in sizes:
                sizes[one] = next(fresh)
            shape.append(one if isinstance(one, int) else sizes[one])
        feed[value.name] = example(value, shape)
    return feed


def _fixed(
    model: ModelProto, small: Mapping[str, Array], large: Mapping[str, Array]
) -> dict[str, Array]:
    found: dict[str, Array] = {}
    derived = {one.name for one in model.graph.initializer}
    for node in model.graph.node:
        from_shapes = node.op_type in {"Shape", "Size"} or (
            len(node.input) > 0 and all(not one or one in derived for one in node.input)
        )
        if not from_shapes:
            continue
        derived.update(node.output)
        for name in node.output:
            seen, again = small.get(name), large.get(name)
            if seen is None or again is None or seen.dtype != np.int64:
                continue
            if np.array_equal(seen, again):
                found[name] = seen
    return found
