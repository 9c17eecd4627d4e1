"""Replies as no honest device sends them, and the code that each is refused with."""

import io
from collections.abc import Callable

import numpy as np

from agent.federated.update import as_floats, as_steps
from controller.federated.coordinator.admission import Code
from controller.federated.coordinator.request import arrays_of
from controller.federated.task import Task
from protos.flower import message_pb2
from protos.flower.arrays import INT8_STEP, NPY, int8_step
from protos.int8_step import Int8Step
from tests.controller.federated.coordinator.pretend import (
    Floats,
    reply,
)

Arrays = dict[str, Floats]


WEIGHT: dict[str, float] = {"num-examples": 40}


def given(message: message_pb2.Message) -> Arrays:
    record = next(item for item in message.content.items if item.HasField("array_record"))
    return arrays_of(record.array_record.SerializeToString(deterministic=True))


def learnt(message: message_pb2.Message) -> message_pb2.ArrayRecord:
    """An update as an honest device might send it."""
    before = given(message)
    after = {name: (array + 0.01).astype(np.float32) for name, array in before.items()}
    return as_floats(before, after).record


def with_arrays(change: Callable[[Arrays], Arrays]) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        record = message_pb2.ArrayRecord()
        for name, array in change(given(message)).items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            value = message_pb2.Array(
                dtype=array.dtype.name, shape=array.shape, stype=NPY, data=buffer.getvalue()
            )
            record.items.add(key=name, value=value)
        return reply(message, record, WEIGHT)

    return answer


def with_metrics(metrics: dict[str, float]) -> Callable[..., bytes]:
    return lambda message, _: reply(message, learnt(message), metrics)


def always(data: bytes) -> Callable[..., bytes]:
    return lambda _, __: data


def with_weight_array(value: message_pb2.Array) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        record = learnt(message)
        next(item for item in record.items if item.key == "weight").value.CopyFrom(value)
        return reply(message, record, WEIGHT)

    return answer


def with_message(change: Callable[[message_pb2.Message], None]) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        made = message_pb2.Message.FromString(reply(message, learnt(message), WEIGHT))
        change(made)
        return made.SerializeToString()

    return answer


def bomb(header: str) -> message_pb2.Array:
    text = header.encode().ljust(118) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    return message_pb2.Array(dtype="float32", shape=[6, 3], stype=NPY, data=data)


def stepping(scale: float) -> Callable[..., bytes]:
    def answer(message: message_pb2.Message, task: Task) -> bytes:
        before = given(message)
        record = as_steps(before, before, {}).record
        for item in record.items:
            shape = before[item.key].shape
            step = int8_step(Int8Step(np.float32(scale), np.full(shape, 127, np.int8)))
            item.value.CopyFrom(step)
        return reply(message, record, WEIGHT)

    return answer


def twice(message: message_pb2.Message) -> None:
    record = message.content.items[0].array_record
    record.items.add().CopyFrom(record.items[0])


def another_metric_record(message: message_pb2.Message) -> None:
    message.content.items.add().CopyFrom(message.content.items[1])


def without_metrics(message: message_pb2.Message) -> None:
    del message.content.items[1]


def without_weight(message: message_pb2.Message) -> None:
    message.content.items[1].metric_record.items[0].key = "examples"


def listed_weight(message: message_pb2.Message) -> None:
    message.content.items[1].metric_record.items[0].value.sint_list.vals.append(40)


def of_another_task(message: message_pb2.Message) -> None:
    message.metadata.reply_to_message_id = "somebody-elses"


def under_another_key(message: message_pb2.Message) -> None:
    message.content.items[0].key = "weights"


def unknown_encoding(message: message_pb2.Message) -> None:
    message.content.items[0].array_record.items[0].value.stype = "pickle"


def many_metrics(message: message_pb2.Message) -> None:
    for number in range(300):
        record = message.content.items[1].metric_record
        record.items.add(key=f"m{number}").value.double = 1.0


def without_value(message: message_pb2.Message) -> None:
    message.content.items[1].metric_record.items.add(key="x")


def configured(message: message_pb2.Message) -> None:
    message.content.items.add(key="config").config_record.items.add(key="a").value.string = "b"


def spoilt(value: float) -> Callable[[Arrays], Arrays]:
    def change(arrays: Arrays) -> Arrays:
        arrays["weight"] = arrays["weight"].copy()
        arrays["weight"][0, 0] = value
        return arrays

    return change


ATTACKS: dict[str, tuple[Callable[..., bytes], Code]] = {
    "NaN": (with_arrays(spoilt(np.nan)), Code.NOT_FINITE),
    "infinity": (with_arrays(spoilt(np.inf)), Code.NOT_FINITE),
    "an extra array": (
        with_arrays(lambda found: {**found, "more": np.ones(3, np.float32)}),
        Code.KEYS,
    ),
    "an array less": (with_arrays(lambda found: {"bias": found["bias"]}), Code.KEYS),
    "an array twice": (with_message(twice), Code.KEYS),
    "another shape": (
        with_arrays(lambda found: {**found, "bias": np.ones(4, np.float32)}),
        Code.ARRAY,
    ),
    "a shape that broadcasts": (
        with_arrays(lambda found: {**found, "bias": np.ones(1, np.float32)}),
        Code.ARRAY,
    ),
    "a scalar": (
        with_arrays(lambda found: {**found, "bias": np.ones((), np.float32)}),
        Code.ARRAY,
    ),
    "float64": (
        with_arrays(lambda found: {**found, "bias": np.ones(3, np.float64)}),
        Code.ARRAY,
    ),
    "int64": (with_arrays(lambda found: {**found, "bias": np.ones(3, np.int64)}), Code.ARRAY),
    "text": (with_arrays(lambda found: {**found, "bias": np.array(["a", "b", "c"])}), Code.ARRAY),
    "big endian": (
        with_arrays(lambda found: {**found, "bias": np.ones(3, ">f4")}),
        Code.ARRAY,
    ),
    "Fortran order": (
        with_arrays(lambda found: {**found, "weight": np.asfortranarray(found["weight"])}),
        Code.ARRAY,
    ),
    "a header of four terabytes": (
        with_weight_array(
            bomb("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }")
        ),
        Code.ARRAY,
    ),
    "a header of objects": (
        with_weight_array(bomb("{'descr': '|O', 'fortran_order': False, 'shape': (6, 3), }")),
        Code.ARRAY,
    ),
    "a header that is nested": (with_weight_array(bomb("(" * 110)), Code.ARRAY),
    "a header that ends in a text": (with_weight_array(bomb("{'descr': '<f4")), Code.ARRAY),
    "a header that calls": (with_weight_array(bomb("__import__('os').getcwd()")), Code.ARRAY),
    "a header with too many dimensions": (
        with_weight_array(
            bomb("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 30 + "), }")
        ),
        Code.ARRAY,
    ),
    "a pickle": (
        with_weight_array(message_pb2.Array(dtype="float32", stype=NPY, data=b"\x80\x04N.")),
        Code.ARRAY,
    ),
    "an unknown encoding": (with_message(unknown_encoding), Code.ARRAY),
    "a step that is too short": (
        with_weight_array(message_pb2.Array(stype=INT8_STEP, data=b"\x00" * 9)),
        Code.ARRAY,
    ),
    "a step of infinite scale": (stepping(np.inf), Code.ARRAY),
    "a step of negative scale": (stepping(-1.0), Code.ARRAY),
    "a step beyond float32": (stepping(3e38), Code.NOT_FINITE),
    "a weight of 1e12": (with_metrics({"num-examples": 1e12}), Code.WEIGHT),
    "a negative weight": (with_metrics({"num-examples": -50}), Code.WEIGHT),
    "a weight of zero": (with_metrics({"num-examples": 0}), Code.WEIGHT),
    "a weight of NaN": (with_metrics({"num-examples": float("nan")}), Code.NOT_FINITE),
    "no weight": (with_message(without_weight), Code.WEIGHT),
    "a list as weight": (with_message(listed_weight), Code.WEIGHT),
    "an infinite metric": (
        with_metrics({"num-examples": 40, "train_loss": float("inf")}),
        Code.NOT_FINITE,
    ),
    "no metrics": (with_message(without_metrics), Code.RECORDS),
    "two metric records": (with_message(another_metric_record), Code.RECORDS),
    "a configuration": (with_message(configured), Code.RECORDS),
    "three hundred metrics": (with_message(many_metrics), Code.METRICS),
    "twenty-one metrics": (
        with_metrics({"num-examples": 40, **{f"m{at}": 0.5 for at in range(20)}}),
        Code.METRICS,
    ),
    "a metric with a long name": (
        with_metrics({"num-examples": 40, "x" * 65: 0.5}),
        Code.METRICS,
    ),
    "a metric without a name": (with_metrics({"num-examples": 40, "": 0.5}), Code.METRICS),
    "a metric named for a terminal": (
        with_metrics({"num-examples": 40, "loss\x1b[2J\n": 0.5}),
        Code.METRICS,
    ),
    "a metric without value": (with_message(without_value), Code.METRICS),
    "another key": (with_message(under_another_key), Code.RECORDS),
    "another task": (with_message(of_another_task), Code.ANOTHER_TASK),
    "junk": (always(b"\xff" * 100), Code.MALFORMED),
    "nothing": (always(b""), Code.ANOTHER_TASK),
    "a huge message": (always(b"\x00" * 200_000), Code.TOO_LARGE),
    "a huge update": (
        with_arrays(lambda found: {name: array + 1000 for name, array in found.items()}),
        Code.NORM,
    ),
    "a long update": (
        with_arrays(lambda found: {name: array + 10 for name, array in found.items()}),
        Code.NORM_OF_COHORT,
    ),
}
