"""Whether a file is an ONNX model that may run on a device, and what it says of itself.

Steps, each of which sees only what passed the one before it:

1. The size, before anything is read.
2. The first bytes: what is no ONNX file is called by its name; a pickle is never accepted.
3. How many fields parsing would make, counted without making them.
4. Parsing.
5. The header: intermediate representation and operator sets that devices know.
6. The graph and every subgraph: no custom operators, local functions, data in other files.
7. ONNX's own checker, on the bytes alone.
8. Shapes: what can't be served, or needs absurd amounts of memory.

Nothing of the model is run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, cast

import onnx
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from controller.errors import BadModel, TooLarge
from controller.onnx_graph import (
    OPERATOR_DOMAINS,
    graph_objections,
    operators,
    parameters,
)
from controller.registry.field_budget import BadWire, count_fields
from controller.registry.file_kind import other_kind
from controller.registry.onnx_ports import NoPorts, Port, ports
from protos.limits import MIB

MODEL_BYTES: Final = 512 * MIB
MAX_FIELDS: Final = 4_000_000  # a forest of a thousand trees has about one million
MAX_VALUE_ELEMENTS: Final = 2**28
"""How large one tensor inside the graph may be for one row: 1 GiB of float32."""

MIN_OPSET: Final = 7  # the oldest that onnxruntime promises to run
MIN_IR: Final = 3  # operator sets have had versions since
_MODEL: Final = cast("Descriptor", onnx.ModelProto.DESCRIPTOR)
_SHOWN_REASONS: Final = 5
_SHOWN_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What an accepted file says of itself.

    Attributes:
        opset: version of ONNX's own operators; ``ml_opset`` that of ai.onnx.ml, 0 if it has none.
        operators: those used, subgraphs included, each once: "Gemm", "ai.onnx.ml.Scaler".
        parameters: how many numbers it has.
        row_at_a_time: whether its first axis is fixed at 1.
        producer: the program that wrote it: "skl2onnx 1.20.0".
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opset: int
    ml_opset: int
    ir_version: int
    operators: tuple[str, ...]
    parameters: int
    length: int
    producer: str

    @property
    def row_at_a_time(self) -> bool:  # noqa: D102 - see Attributes
        return any(one.shape is not None and one.shape[0] == 1 for one in self.inputs)


def read_onnx(
    data: bytes,
    file: str = "model.onnx",
    max_bytes: int = MODEL_BYTES,
    max_fields: int = MAX_FIELDS,
) -> OnnxFile:
    """What ``data`` says of itself, if it may run on a device.

    Raises:
        TooLarge: over ``max_bytes``; names ``file``.
        BadModel: it may not; the message names ``file`` and every reason found at that step.
    """
    if len(data) > max_bytes:
        raise TooLarge(f"{file}: {len(data):,} bytes; a model has {max_bytes:,} at most")
    if kind := other_kind(data):
        _refuse(file, [f"not an ONNX file: it is {kind}"])
    try:
        count_fields(data, _MODEL, max_fields)
        model = onnx.ModelProto.FromString(data)
        return _examined(model, data, file)
    except (BadWire, DecodeError) as error:
        _refuse(file, [f"not an ONNX file: {error}"])


def _examined(model: onnx.ModelProto, data: bytes, file: str) -> OnnxFile:
    if not model.HasField("graph") or not model.ir_version:
        _refuse(file, ["not an ONNX file: it has no graph or no IR version"])
    _refuse_if(file, _header_objections(model))
    _refuse_if(file, graph_objections(model))
    inferred = _checked(model, data, file)
    _refuse_if(file, _value_objections(inferred.graph))
    try:
        inputs, outputs = ports(inferred.graph)
    except NoPorts as error:
        _refuse(file, error.reasons)
    opsets = _opsets(model)
    return OnnxFile(
        inputs=inputs,
        outputs=outputs,
        opset=opsets.get("", 0),
        ml_opset=opsets.get("ai.onnx.ml", 0),
        ir_version=int(model.ir_version),
        operators=operators(model),
        parameters=parameters(model),
        length=len(data),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
    )


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {
        OPERATOR_DOMAINS[one.domain]: int(one.version)
        for one in model.opset_import
        if one.domain in OPERATOR_DOMAINS
    }


def _header_objections(model: onnx.ModelProto) -> list[str]:
    found = []
    newest_ir, newest = int(onnx.IR_VERSION), int(onnx.defs.onnx_opset_version())
    if not MIN_IR <= model.ir_version <= newest_ir:
        found.append(f"IR version {model.ir_version}; {MIN_IR} to {newest_ir} are understood")
    # Converters name a set once for each part that they convert: that is no fault.
    opsets = _opsets(model)
    found += [
        f"operator set {one.domain or 'ai.onnx'!r} is imported as version {one.version} and as "
        f"{opsets[OPERATOR_DOMAINS[one.domain]]}"
        for one in model.opset_import
        if one.domain in OPERATOR_DOMAINS and one.version != opsets[OPERATOR_DOMAINS[one.domain]]
    ]
    opset = opsets.get("")
    if opset is None and "ai.onnx.ml" not in opsets:
        found.append("no operator set is imported")
    if opset is not None and not MIN_OPSET <= opset <= newest:
        found.append(f"operator set {opset}; {MIN_OPSET} to {newest} are understood")
    return found


def _checked(model: onnx.ModelProto, data: bytes, file: str) -> onnx.ModelProto:
    """The model with its shapes inferred, once ONNX's checker has passed it."""
    try:
        onnx.checker.check_model(_with_every_shape(model) or data)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        MemoryError,
        DecodeError,
    ) as error:
        _refuse(file, [f"not a valid ONNX model: {' '.join(str(error).split())}"])


def _with_every_shape(model: onnx.ModelProto) -> bytes:
    """The model with shapes where inputs and outputs have none; empty if all have one.

    The checker asks for them, runtimes do not: what is missing is found by inference, or refused.
    """
    bare = [
        (side, index)
        for side in ("input", "output")
        for index, value in enumerate(getattr(model.graph, side))
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    if not bare:
        return b""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for side, index in bare:
        getattr(whole.graph, side)[index].type.tensor_type.shape.SetInParent()
    return bytes(whole.SerializeToString())


def _value_objections(graph: onnx.GraphProto) -> list[str]:
    """Values inside the graph whose declared or inferred size no device could hold."""
    found = []
    for value in graph.value_info:
        dims = value.type.tensor_type.shape.dim
        elements = math.prod(max(int(one.dim_value), 1) for one in dims)
        if elements > MAX_VALUE_ELEMENTS:
            found.append(
                f"value {value.name!r} has {elements:,} elements: more than a device holds"
            )
    return found


def _refuse_if(file: str, reasons: Sequence[str]) -> None:
    if reasons:
        _refuse(file, reasons)


def _refuse(file: str, reasons: Sequence[str]) -> NoReturn:
    shown = [one[:_SHOWN_CHARACTERS] for one in reasons[:_SHOWN_REASONS]]
    more = len(reasons) - len(shown)
    raise BadModel(f"{file}: " + "; ".join(shown) + (f"; and {more} more" if more else ""))
