"""A model's inputs and outputs as the Open Inference Protocol will show them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from onnx import GraphProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto

from agent.inference.datatypes import DATATYPES
from protos.limits import INFER_BYTES

BATCH: Final = -1
"""The first axis, of any length."""

UNKNOWN: Final = -2
"""An axis of an output whose length the file does not tell: the reference run does."""

MAX_PORTS: Final = 256
MAX_NAME: Final = 256

_DATATYPES: Final[dict[int, str]] = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}

Axis = int | str  # its length, BATCH or UNKNOWN; or the name of a symbolic axis


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output.

    Attributes:
        dtype: an Open Inference Protocol datatype.
        shape: ``BATCH`` first, or 1 where the model takes one row at a time; outputs may have
            ``UNKNOWN`` axes. None is an output of which not even the rank is known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


class NoPorts(Exception):
    """The inputs or outputs can't be served; ``reasons`` says everything that is wrong."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


def ports(graph: GraphProto) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a graph whose shapes have been inferred.

    Raises:
        NoPorts: they can't be served.
    """
    given = {one.name for one in graph.initializer}
    given |= {one.values.name for one in graph.sparse_initializer}
    inputs = [one for one in graph.input if one.name not in given]
    reasons = [*_listing("input", inputs), *_listing("output", graph.output)]
    fixed = any(_is_fixed(one) for one in inputs)
    found_inputs, found_outputs = [], []
    for one in inputs:
        port, objections = _port("input", one, fixed=fixed)
        reasons += objections
        found_inputs += port
    for one in graph.output:
        port, objections = _port("output", one, fixed=fixed)
        reasons += objections
        found_outputs += port
    if reasons:
        raise NoPorts(reasons)
    return tuple(found_inputs), tuple(found_outputs)


def _listing(what: str, values: Sequence[ValueInfoProto]) -> list[str]:
    names = [one.name for one in values]
    reasons = [f"{what} {name!r} stands there twice" for name in _twice(names)]
    if not names:
        reasons.append(f"no {what}s")
    if len(names) > MAX_PORTS:
        reasons.append(f"{len(names)} {what}s; {MAX_PORTS} at most")
    reasons += [
        f"{what} {name[:40]!r}…: its name is too long" for name in names if len(name) > MAX_NAME
    ]
    if not all(names):
        reasons.append(f"an {what} without a name")
    return reasons


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1}) if len(names) < 1000 else []


def _port(what: str, value: ValueInfoProto, *, fixed: bool) -> tuple[list[Port], list[str]]:
    title = f"{what} {value.name!r}"
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return [], [f"{title} is {_not_a_tensor(value.type)}"]
    dtype = _DATATYPES.get(value.type.tensor_type.elem_type)
    if dtype is None:
        return [], [f"{title} is of type {_element(value.type)}, which no request can carry"]
    if not value.type.tensor_type.HasField("shape"):
        if what == "input":
            return [], [f"{title} has no shape: declare it, with the first axis dynamic"]
        return [Port(value.name, dtype, None)], []
    axes = [_axis(dim) for dim in value.type.tensor_type.shape.dim]
    objections = [f"{title} {reason}" for reason in _axis_objections(what, axes, fixed=fixed)]
    if objections:
        return [], objections
    shape = (axes[0] if axes[0] == 1 else BATCH, *(one for one in axes[1:]))
    port = Port(value.name, dtype, tuple(int(one) for one in shape))
    return [port], _size_objections(title, port)


def _axis(dim: TensorShapeProto.Dimension) -> Axis:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return str(dim.dim_param) or UNKNOWN


def _is_fixed(value: ValueInfoProto) -> bool:
    """Whether the input takes just one row at a time."""
    dims = value.type.tensor_type.shape.dim
    return bool(dims) and _axis(dims[0]) == 1


def _axis_objections(what: str, axes: Sequence[Axis], *, fixed: bool) -> list[str]:
    shown = f"[{', '.join('?' if one == UNKNOWN else str(one) for one in axes)}]"
    if not axes:
        return ["is a scalar: it needs a first axis for the rows of a batch"]
    reasons = []
    first = axes[0]
    if isinstance(first, int) and first >= 0 and not (fixed and first == 1):
        reasons.append(
            f"{shown}: its first axis is fixed at {first}; export the model with a dynamic first "
            "axis, the rows of a batch"
        )
    elif fixed and what == "input" and first != 1:
        reasons.append(f"{shown}: other inputs take one row at a time; it must, too")
    for index, axis in enumerate(axes[1:], start=1):
        if isinstance(axis, str):
            reasons.append(
                f"{shown}: axis {index} ({axis!r}) is dynamic; only the first may be: export the "
                "model with a fixed length there"
            )
        elif axis == UNKNOWN and what == "input":
            reasons.append(f"{shown}: axis {index} has no length; only the first may be dynamic")
        elif axis == 0:
            reasons.append(f"{shown}: axis {index} has length 0")
    return reasons


def _size_objections(title: str, port: Port) -> list[str]:
    lengths = [one for one in (port.shape or ())[1:] if one > 0]
    row = math.prod(lengths) * DATATYPES[port.dtype].numpy.itemsize
    if row > INFER_BYTES:
        return [f"{title}: one row is {row:,} bytes; a request has {INFER_BYTES:,} at most"]
    return []


def _not_a_tensor(kind: TypeProto) -> str:
    name = str(kind.WhichOneof("value") or "").removesuffix("_type")
    if name == "sequence" and kind.sequence_type.elem_type.WhichOneof("value") == "map_type":
        return (
            "a sequence of maps, as skl2onnx makes of probabilities: export with zipmap=False "
            "(options={id(model): {'zipmap': False}})"
        )
    if name == "map":
        return "a map, not a tensor: export with zipmap=False"
    if name == "sparse_tensor":
        return "a sparse tensor: export it as a dense one"
    if not name:
        return "of no declared type"
    return f"of type {name}, not a tensor: export the model with tensors only"


def _element(kind: TypeProto) -> str:
    number = kind.tensor_type.elem_type
    names = {value: name for name, value in TensorProto.DataType.items()}
    return names.get(number, f"number {number}")
