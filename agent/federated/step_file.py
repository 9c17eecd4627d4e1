"""What a train-step file says and does, read from its bytes before any runtime is given them.

A training step is signed like the rest of its version. Still a device runs only what it knows: the
standard's operators on an allow-list, no subgraphs, no functions, no files beside this one. The file
is walked field by field as ``onnx.proto`` numbers them: the package that reads it is not on the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.federated.errors import StepRefused
from agent.federated.layout import CLASSES
from protos.errors import DocumentError
from protos.limits import MIB
from protos.train_step import METADATA_KEY, OPERATORS, OUTPUT, TrainStepSpec, read_spec

STEP_BYTES: Final = 256 * MIB
STANDARD: Final = frozenset({"", "ai.onnx"})
MOST_NODES: Final = 100_000
_EXTERNAL: Final = 1

Field = tuple[int, int | memoryview]


@dataclass(frozen=True, slots=True)
class StepFile:
    """A training step that this device may run.

    Attributes:
        classes: how many values the output has in a row, if it says so; else 0.
    """

    spec: TrainStepSpec
    classes: int


def read_step(data: bytes) -> StepFile:
    """The training step in ``data``.

    Raises:
        StepRefused: it is too large, malformed, or does what a training step may not; says what.
    """
    if len(data) > STEP_BYTES:
        raise StepRefused(f"training step: {len(data)} bytes; {STEP_BYTES} at most")
    specs: list[str] = []
    classes = nodes = 0
    for number, value in _fields(memoryview(data)):
        match number, value:
            case 7, memoryview() as graph:
                found, seen = _checked_graph(graph)
                classes, nodes = found or classes, nodes + seen
            case 14, memoryview() as entry:
                specs += _spec_text(entry)
            case ((20 | 25), _):
                raise StepRefused("training step: it has functions or training information")
            case _:
                pass
    if not nodes or len(specs) != 1:
        raise StepRefused(f"training step: no ONNX model with one {METADATA_KEY!r} in its metadata")
    try:
        spec = read_spec(specs[0])
    except DocumentError as error:
        raise StepRefused(f"training step: {error.detail}") from error
    if spec.loss in CLASSES and (not classes or len(spec.classes) not in {0, classes}):
        raise StepRefused("training step: it does not say how many classes there are, or says two")
    return StepFile(spec, classes)


def _spec_text(entry: memoryview) -> list[str]:
    strings = {number: value for number, value in _fields(entry) if isinstance(value, memoryview)}
    if _text(strings.get(1, memoryview(b""))) != METADATA_KEY:
        return []
    return [_text(strings.get(2, memoryview(b"")))]


# --- The graph ------------------------------------------------------------------------------------


def _checked_graph(graph: memoryview) -> tuple[int, int]:
    """Classes that the output has, 0 if it does not say; and how many nodes there are."""
    classes = nodes = 0
    for number, value in _fields(graph):
        match number, value:
            case 1, memoryview() as node:
                _check_node(node)
                nodes += 1
            case 5, memoryview() as tensor:
                _check_tensor(tensor)
            case 15, _:
                raise StepRefused("training step: it has sparse tensors")
            case 12, memoryview() as output:
                classes = _classes_of(output) or classes
            case _:
                pass
        if nodes > MOST_NODES:
            raise StepRefused(f"training step: more than {MOST_NODES} nodes")
    return classes, nodes


def _check_node(node: memoryview) -> None:
    """Every occurrence counts: a reader takes the last of a field that stands there twice."""
    operators, domains = [], []
    for number, value in _fields(node):
        if not isinstance(value, memoryview):
            continue
        if number == 4:
            operators.append(_text(value))
        elif number == 7:
            domains.append(_text(value))
        elif number == 5:
            _check_attribute(value)
    foreign = [domain for domain in domains if domain not in STANDARD]
    unknown = [operator for operator in operators if operator not in OPERATORS]
    if foreign or unknown or not operators:
        named = f"{(foreign or [''])[-1]}::{(operators or [''])[-1]}".removeprefix("::")
        raise StepRefused(f"training step: the operator {named!r} is not one that may train here")


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        match number, value:
            case ((6 | 11), _):
                raise StepRefused("training step: an operator has a graph of its own")
            case ((22 | 23), _):
                raise StepRefused("training step: it has sparse tensors")
            case ((5 | 10), memoryview() as tensor):
                _check_tensor(tensor)
            case _:
                pass


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == 13 or (number == 14 and value == _EXTERNAL):
            raise StepRefused("training step: a tensor stands in another file")


def _classes_of(output: memoryview) -> int:
    """The length of the last axis of ``OUTPUT``, if this is that, of two axes, and says so."""
    parts = {number: value for number, value in _fields(output) if isinstance(value, memoryview)}
    if _text(parts.get(1, memoryview(b""))) != OUTPUT:
        return 0
    shape = _inner(_inner(parts.get(2), 1), 2)
    if shape is None:
        return 0
    axes = [value for number, value in _fields(shape) if number == 1]
    last = axes[-1] if len(axes) == 2 else None
    if not isinstance(last, memoryview):
        return 0
    lengths = [value for number, value in _fields(last) if number == 1]
    return lengths[-1] if lengths and isinstance(lengths[-1], int) and lengths[-1] < 2**31 else 0


def _inner(message: memoryview | None, wanted: int) -> memoryview | None:
    if message is None:
        return None
    found = [value for number, value in _fields(message) if number == wanted]
    return found[-1] if found and isinstance(found[-1], memoryview) else None


# --- Protocol Buffers -----------------------------------------------------------------------------


def _fields(message: memoryview) -> Iterator[Field]:
    """Each field's number, and its value: a number, or the bytes that stand there."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value: int | memoryview
        match key & 7:
            case 0:
                value, at = _varint(message, at)
            case 1:
                value, at = message[at : at + 8], at + 8
            case 2:
                length, at = _varint(message, at)
                value, at = message[at : at + length], at + length
            case 5:
                value, at = message[at : at + 4], at + 4
            case _:
                raise StepRefused("training step: not an ONNX file")
        if at > len(message):
            raise StepRefused("training step: an ONNX file that is cut off")
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise StepRefused("training step: an ONNX file that is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise StepRefused("training step: not an ONNX file")


def _text(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise StepRefused("training step: a name is not UTF-8") from error
