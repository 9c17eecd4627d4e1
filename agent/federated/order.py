"""What the controller orders, read: sizes first, then the message, then the plan in its configuration.

The configuration is a Flower ``ConfigRecord``; its keys are those that Flower's strategies and
examples use. Unknown keys are ignored: they may be for other clients. A known one that can't be meant
so is refused by name: a device that trains with other values than asked for spoils the round.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from agent.federated.errors import TaskUnfit
from agent.federated.machine import State
from agent.federated.record import EVALUATE, TRAIN, Task
from agent.federated.trainer import Plan
from protos.flower import message_pb2
from protos.limits import BLOB_BYTES, KIB
from protos.v1 import federated_pb2

MESSAGE_BYTES: Final = 256 * KIB
MOST_MILLISECONDS: Final = 366 * 86_400_000
_ID: Final = re.compile(r"[0-9A-Za-z_.:-]{1,128}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

Scalar = bool | int | float | str
Config = Mapping[str, Scalar]

LEARNING_RATE: Final = ("lr", "learning-rate")
EPOCHS: Final = ("local-epochs", "epochs")
BATCH: Final = ("batch-size",)
MOMENTUM: Final = ("momentum",)
PROXIMAL: Final = ("proximal-mu",)
STEPS: Final = ("max-steps",)
SEED: Final = ("seed",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One task, as it was told.

    Attributes:
        seconds: that were left when it was sent.
        reply_bytes: a reply may have at most so many; 0 is no bound.
        told: as it came.
    """

    id: str
    run: str
    round: int
    model: str
    version: int
    seconds: float
    reply_bytes: int
    told: federated_pb2.FederatedTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a task asks for.

    Attributes:
        phase: ``TRAIN`` or ``EVALUATE``.
        key: of the array record that holds the parameters; the reply's has the same.
        sha256: names the serialised record, which is ``length`` long.
        steps: whether the reply's arrays are int8 steps.
        config: what stands in the message's configuration.
    """

    phase: str
    key: str
    sha256: str
    length: int
    steps: bool
    config: Config


def read_order(order: federated_pb2.FederatedOrder) -> Order | None:
    """The task in ``order``; None if nothing is to be done.

    Raises:
        TaskUnfit: it has no id that could be answered.
    """
    if not order.HasField("task"):
        return None
    told = order.task
    if not _ID.fullmatch(told.task_id):
        raise TaskUnfit(f"task_id: {told.task_id[:80]!r} is none")
    return Order(
        id=told.task_id,
        run=told.run[:200],
        round=told.round,
        model=told.model[:200],
        version=told.version,
        seconds=min(max(told.remaining_ms, 0), MOST_MILLISECONDS) / 1000,
        reply_bytes=told.reply_bytes,
        told=told,
    )


def begun(order: Order, now: float) -> Task:
    """The task as it stands when it is told first, at ``now``."""
    return Task(
        id=order.id,
        run=order.run,
        round=order.round,
        phase=phase_of(order),
        model=order.model,
        version=order.version,
        state=State.TOLD,
        since=now,
    )


def message_of(order: Order) -> message_pb2.Message:
    """The message that a reply answers; an empty one with that id if it can't be read."""
    message = _message(order.told.message)
    if message is None:
        message = message_pb2.Message()
    message.metadata.message_id = order.id
    return message


def phase_of(order: Order) -> str:
    """Flower's message type, as far as it fits into a record."""
    return message_of(order).metadata.message_type[:40]


def read_request(order: Order) -> Request:
    """What the task asks for.

    Raises:
        TaskUnfit: it is not what a device does, or can't be read; names the field.
    """
    message = _message(order.told.message)
    if message is None:
        raise TaskUnfit("message: not one of Flower's, or too large")
    kind = message.metadata.message_type
    if kind not in {TRAIN, EVALUATE}:
        raise TaskUnfit(f"message type {kind[:40]!r}: this device knows {TRAIN!r} and {EVALUATE!r}")
    if len(order.told.arrays) != 1:
        raise TaskUnfit(f"arrays: {len(order.told.arrays)} records; one is wanted, the parameters")
    (arrays,) = order.told.arrays
    if not _SHA256.fullmatch(arrays.sha256) or not 0 < arrays.length <= BLOB_BYTES:
        raise TaskUnfit("arrays: a digest or a length that can't be")
    steps = order.told.encoding == federated_pb2.UPDATE_ENCODING_INT8_STEP
    if not steps and order.told.encoding != federated_pb2.UPDATE_ENCODING_FLOAT32:
        raise TaskUnfit(f"encoding: {order.told.encoding} is none that this device knows")
    return Request(
        phase=kind,
        key=arrays.key,
        sha256=arrays.sha256,
        length=arrays.length,
        steps=steps,
        config=config_of(message),
    )


def plan_of(request: Request, task: str) -> Plan:
    """How the device trains. Without a seed, the task's id is one.

    Raises:
        TaskUnfit: a value is none that can be meant so; names the key.
    """
    config, usual = request.config, Plan()
    drawn = int.from_bytes(hashlib.sha256(task.encode()).digest()[:6], "big")
    return Plan(
        epochs=_whole(config, EPOCHS, usual.epochs, 1, 100_000),
        batch=_whole(config, BATCH, usual.batch, 1, 1_000_000),
        learning_rate=_number(config, LEARNING_RATE, usual.learning_rate, 1e6),
        momentum=_number(config, MOMENTUM, usual.momentum, 1.0),
        proximal=_number(config, PROXIMAL, usual.proximal, 1e6),
        most_steps=_whole(config, STEPS, 0, 0, 2**53),
        seed=_whole(config, SEED, drawn, 0, 2**63),
    )


def config_of(message: message_pb2.Message) -> Config:
    """The scalars of all its configuration records; of two with one key, the last."""
    found: dict[str, Scalar] = {}
    for record in message.content.items:
        if record.WhichOneof("value") != "config_record":
            continue
        for item in record.config_record.items:
            value = _scalar(item.value)
            if value is not None:
                found[item.key] = value
    return found


def _scalar(value: message_pb2.ConfigRecordValue) -> Scalar | None:
    match value.WhichOneof("value"):
        case "double":
            return value.double
        case "sint64":
            return value.sint64
        case "uint64":
            return value.uint64
        case "bool":
            return value.bool
        case "string":
            return value.string
        case _:
            return None


def _message(data: bytes) -> message_pb2.Message | None:
    if len(data) > MESSAGE_BYTES:
        return None
    try:
        return message_pb2.Message.FromString(data)
    except DecodeError:
        return None


def _found(config: Config, keys: tuple[str, ...]) -> tuple[str, Scalar | None]:
    return next(((key, config[key]) for key in keys if key in config), (keys[0], None))


def _number(config: Config, keys: tuple[str, ...], usual: float, most: float) -> float:
    key, value = _found(config, keys)
    if value is None:
        return usual
    if isinstance(value, bool | str) or not math.isfinite(value) or not 0 <= value <= most:
        raise TaskUnfit(f"config {key!r}: {value!r} is no number from 0 to {most:g}")
    return float(value)


def _whole(config: Config, keys: tuple[str, ...], usual: int, least: int, most: int) -> int:
    key, value = _found(config, keys)
    if value is None:
        return usual
    if isinstance(value, bool | str) or value != value or not least <= value <= most:  # noqa: PLR0124
        raise TaskUnfit(f"config {key!r}: {value!r} is no whole number from {least} to {most}")
    if value != int(value):
        raise TaskUnfit(f"config {key!r}: {value!r} is not whole")
    return int(value)
