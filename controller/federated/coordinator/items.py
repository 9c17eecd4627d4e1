"""How many items a device's message claims to have, counted before anything is made of them.

Two bytes may stand for an array, which takes fifty and more once it is read: a reply as long as a large
model would take all of the memory, and would again whenever the coordinator is started anew.
"""

from collections.abc import Mapping
from typing import Any, Final

from protos.errors import DocumentError
from protos.flower import message_pb2

MOST_ITEMS: Final = 100_000

_RECORDS: Final = (
    (message_pb2.RecordDict.Item.ARRAY_RECORD_FIELD_NUMBER, message_pb2.ArrayRecord),
    (message_pb2.RecordDict.Item.METRIC_RECORD_FIELD_NUMBER, message_pb2.MetricRecord),
    (message_pb2.RecordDict.Item.CONFIG_RECORD_FIELD_NUMBER, message_pb2.ConfigRecord),
)
_ITEMS: Final[Mapping[int, Any]] = {
    message_pb2.Message.CONTENT_FIELD_NUMBER: {
        message_pb2.RecordDict.ITEMS_FIELD_NUMBER: {
            number: {record.ITEMS_FIELD_NUMBER: {}} for number, record in _RECORDS
        }
    }
}
"""Field numbers on the way to what is counted."""


def check_items(message: bytes) -> None:
    """Passes if a serialised ``muster.flower.v1.Message`` has a number of items that can be read.

    Raises:
        DocumentError: it has too many, or is no message.
    """
    left, count = [(memoryview(message), _ITEMS)], 0
    while left:
        data, inner = left.pop()
        at = 0
        while at < len(data):
            key, at = _varint(data, at)
            length = 0
            match key & 7:
                case 0:
                    _, at = _varint(data, at)
                case 1 | 5:
                    length = 8 if key & 7 == 1 else 4
                case 2:
                    length, at = _varint(data, at)
                case _:
                    raise DocumentError("malformed", "not a message")
            if key & 7 == 2 and (key >> 3) in inner:
                left.append((data[at : at + length], inner[key >> 3]))
                count += 1
            if count > MOST_ITEMS:
                raise DocumentError("too-large", f"more than {MOST_ITEMS} items")
            at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise DocumentError("malformed", "not a message")
