"""The highest version of ONNX's operators that onnxruntime takes: it does not say, so it is tried.

The models that it is tried with are the smallest there can be, y = x, written field by field as
``onnx.proto`` numbers them: the package that would write them is not on the device.
"""

from collections.abc import Callable
from typing import Final

LOWEST: Final = 7
"""Every onnxruntime that this agent can use takes it."""
MOST: Final = 128
_IR_VERSION: Final = 4
_FLOAT: Final = 1


def highest_opset(takes: Callable[[bytes], bool]) -> int:
    """The highest version of which a model is taken; 0 if not even the lowest is."""
    if not takes(smallest_model(LOWEST)):
        return 0
    low, high = LOWEST, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(smallest_model(middle)) else (low, middle)
    return low


def smallest_model(opset: int) -> bytes:
    """A serialised ``ModelProto``: one ``Identity`` of one number."""
    shape = _message(1, _number(1, 1))
    tensor = _message(1, _number(1, _FLOAT) + _message(2, shape))
    node = _message(1, b"x") + _message(2, b"y") + _message(4, b"Identity")
    ends = [_message(field, _message(1, name) + _message(2, tensor)) for field, name in _ENDS]
    graph = _message(1, node) + _message(2, b"identity") + b"".join(ends)
    operators = _message(1, b"") + _number(2, opset)
    return _number(1, _IR_VERSION) + _message(7, graph) + _message(8, operators)


_ENDS: Final = ((11, b"x"), (12, b"y"))


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    taken = bytearray()
    while value > 127:
        taken.append(value & 127 | 128)
        value >>= 7
    return bytes((*taken, value))
