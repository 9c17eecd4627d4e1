"""Our messages are Flower's, byte for byte, in both directions."""

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.proto import error_pb2, recorddict_pb2
from flwr.proto import message_pb2 as flower_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from controller.federated.coordinator import flower_private
from protos.flower import message_pb2
from protos.flower.arrays import npy, read_npy

NAMES = [
    *("ArrayRecord", "MetricRecord", "ConfigRecord", "RecordDict", "Array"),
    *("MetricRecordValue", "ConfigRecordValue"),
    *("DoubleList", "SintList", "UintList", "BoolList", "StringList", "BytesList"),
]


def theirs(name: str) -> Descriptor:
    for module in (recorddict_pb2, error_pb2, flower_pb2):
        if hasattr(module, name):
            found = getattr(module, name).DESCRIPTOR
            assert isinstance(found, Descriptor)
            return found
    raise AssertionError(name)


def fields(found: Descriptor) -> dict[str, tuple[int, int, bool, str]]:
    """By name: number, type, whether repeated, and of which message."""
    return {one.name: (one.number, one.type, one.is_repeated, kind(one)) for one in found.fields}


def kind(found: FieldDescriptor) -> str:
    return found.message_type.name if found.message_type else ""


@pytest.mark.parametrize("name", [*NAMES, "Metadata", "Error", "Message"])
def test_every_field_of_ours_has_the_number_and_type_of_flowers(name: str) -> None:
    ours = fields(getattr(message_pb2, name).DESCRIPTOR)

    assert ours == fields(theirs(name))


def message() -> Message:
    flower_private.identify(77)
    content = RecordDict(
        {
            "arrays": ArrayRecord({"a": Array(np.arange(6, dtype=np.float32).reshape(2, 3))}),
            "metrics": MetricRecord({"n": 40, "loss": 0.25, "many": [1.5, -2.0], "counts": [1, 2]}),
            "config": ConfigRecord(
                {
                    "server-round": 3,
                    "lr": 0.1,
                    "yes": True,
                    "name": "é",
                    "raw": b"\x00\xff",
                    "flags": [True, False],
                    "texts": ["a", ""],
                    "numbers": [1, -2],
                    "shares": [0.5],
                    "raws": [b"x"],
                }
            ),
        }
    )
    found = Message(content, 2**64 - 1, "train", ttl=60.0, group_id="3 of 4")
    flower_private.name_message(found, "m-1", 77)
    return found


def test_what_flower_writes_we_read_and_write_again_as_it_was() -> None:
    data = flower_private.written(message())

    ours = message_pb2.Message.FromString(data)

    assert ours.SerializeToString(deterministic=True) == data
    assert ours.metadata.dst_node_id == 2**64 - 1
    assert ours.metadata.message_id == "m-1"
    arrays = ours.content.items[0].array_record.items[0].value
    assert (read_npy(arrays, (2, 3)) == np.arange(6, dtype=np.float32).reshape(2, 3)).all()
    values = {item.key: item.value for item in ours.content.items[2].config_record.items}
    assert values["numbers"].sint_list.vals == [1, -2]
    assert values["texts"].string_list.vals == ["a", ""]


def test_what_we_write_flower_reads() -> None:
    ours = message_pb2.Message()
    ours.metadata.run_id, ours.metadata.src_node_id, ours.metadata.dst_node_id = 77, 9, 1
    ours.metadata.reply_to_message_id, ours.metadata.message_type = "m-1", "train"
    array = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    ours.content.items.add(key="arrays").array_record.items.add(key="w", value=npy(array))
    record = ours.content.items.add(key="metrics").metric_record
    record.items.add(key="num-examples").value.sint64 = 40
    record.items.add(key="loss").value.double = 0.5

    found = flower_private.read(ours.SerializeToString())

    assert isinstance(found.metadata, Metadata)
    assert found.metadata.reply_to_message_id == "m-1"
    assert (found.content.array_records["arrays"]["w"].numpy() == array).all()
    assert dict(found.content.metric_records["metrics"]) == {"num-examples": 40, "loss": 0.5}


def test_our_npy_is_flowers_array() -> None:
    array = np.linspace(-1, 1, 7, dtype=np.float32)

    ours, of_flower = npy(array), Array(array)

    assert (ours.dtype, tuple(ours.shape), ours.stype) == (
        of_flower.dtype,
        tuple(of_flower.shape),
        of_flower.stype,
    )
    assert ours.data == of_flower.data


def test_errors_travel_both_ways() -> None:
    reply = Message(Error(5, "on-battery: later"), reply_to=message())

    ours = message_pb2.Message.FromString(flower_private.written(reply))

    assert (ours.error.code, ours.error.reason) == (5, "on-battery: later")
    assert not ours.HasField("content")
    again = flower_private.read(ours.SerializeToString())
    assert again.has_error()
    assert again.error.reason == "on-battery: later"
