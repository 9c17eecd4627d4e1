"""What is asked of one node, without Flower: a message, and its array records beside it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.federated.reply import FlowerError
from controller.federated.exchange import Exchange, Node
from controller.federated.task import ArraysReference, Encoding, Phase, Task, task_id
from protos.flower import message_pb2
from protos.flower.arrays import npy, read_npy

ARRAYS: Final = "arrays"
CONFIG: Final = "config"
ROUND: Final = "server-round"
SERVER: Final = 1
"""The node id of Flower's SuperLink: who asks."""

OVERHEAD: Final = 16 * 1024
ARRAY_OVERHEAD: Final = 600

Float32s = NDArray[np.float32]
Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Request:
    """A message to a node, as ``muster.flower.v1``; ``arrays`` are its array records, serialised."""

    node: int
    message: message_pb2.Message
    arrays: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Posting:
    """What is the same for all tasks of one phase."""

    run: str
    number: int
    step: int
    encoding: Encoding
    now_ms: int
    deadline_ms: int
    reply_bytes: int = 0
    group: str = ""


def request(phase: Phase, node: int, arrays: bytes, config: Mapping[str, Scalar]) -> Request:
    """A request as Flower's strategies make it."""
    message = message_pb2.Message()
    message.metadata.message_type = phase
    item = message.content.items.add(key=CONFIG)
    for key, value in config.items():
        item.config_record.items.add(key=key, value=_config(value))
    return Request(node, message, ((ARRAYS, arrays),))


def _config(value: Scalar) -> message_pb2.ConfigRecordValue:
    match value:
        case bool():
            return message_pb2.ConfigRecordValue(bool=value)
        case int():
            return message_pb2.ConfigRecordValue(sint64=value)
        case float():
            return message_pb2.ConfigRecordValue(double=value)
        case str():
            return message_pb2.ConfigRecordValue(string=value)


@dataclass(frozen=True, slots=True)
class Group:
    """What was decided when a phase was posted: it is durable as its messages' ``group_id``.

    Attributes:
        eligible: nodes that would have taken part.
        wanted: so many good replies are enough.
    """

    eligible: int
    wanted: int

    def __str__(self) -> str:
        return f"{self.wanted} of {self.eligible}"


def group_of(task: Task) -> Group:
    """Of the phase that the task belongs to."""
    wanted, _, eligible = message_pb2.Message.FromString(task.message).metadata.group_id.partition(
        " of "
    )
    return Group(int(eligible), int(wanted))


@dataclass(frozen=True, slots=True)
class _Stored:
    reference: ArraysReference
    reply_bytes: int


def tasks_of(
    requests: Sequence[Request], posting: Posting, nodes: Mapping[int, Node], exchange: Exchange
) -> list[Task]:
    """The tasks, their arrays stored; of a node that is not there, there is none."""
    stored: dict[bytes, _Stored] = {}  # most requests share theirs
    tasks = []
    for one in requests:
        if one.node not in nodes:
            continue
        found = []
        for key, record in one.arrays:
            if record not in stored:
                reference = ArraysReference(key, exchange.put_arrays(record), len(record))
                stored[record] = _Stored(reference, reply_bytes(record))
            found.append((key, stored[record]))
        most = posting.reply_bytes or OVERHEAD + sum(at.reply_bytes for _, at in found)
        references = tuple(replace(at.reference, key=key) for key, at in found)
        tasks.append(_task(one, references, posting, nodes[one.node], most))
    return tasks


def _task(
    one: Request, references: tuple[ArraysReference, ...], posting: Posting, node: Node, most: int
) -> Task:
    name = task_id(posting.run, posting.step, one.node)
    message = message_pb2.Message()
    message.CopyFrom(one.message)
    metadata = message.metadata
    metadata.run_id, metadata.message_id = posting.number, name
    metadata.src_node_id, metadata.dst_node_id = SERVER, one.node
    metadata.created_at = posting.now_ms / 1000
    metadata.ttl = (posting.deadline_ms - posting.now_ms) / 1000
    metadata.group_id = posting.group or metadata.group_id
    return Task(
        id=name,
        run=posting.run,
        step=posting.step,
        round=round_of(message),
        phase=Phase(metadata.message_type.partition(".")[0]),
        node=one.node,
        device=node.device,
        message=message.SerializeToString(deterministic=True),
        arrays=references,
        encoding=posting.encoding,
        posted_ms=posting.now_ms,
        deadline_ms=posting.deadline_ms,
        reply_bytes=most,
    )


def round_of(message: message_pb2.Message) -> int:
    """Flower's ``server-round``; 0 if the message names none."""
    for item in message.content.items:
        for entry in item.config_record.items:
            if entry.key == ROUND and entry.value.WhichOneof("value") == "sint64":
                return max(entry.value.sint64, 0)
    return 0


def reply_bytes(record: bytes) -> int:
    """What a reply takes at most that sends all arrays of the record back as float32."""
    items = message_pb2.ArrayRecord.FromString(record).items
    return len(record) + sum(ARRAY_OVERHEAD + len(item.key) for item in items)


def fingerprint(message: message_pb2.Message, node: int, arrays: Sequence[tuple[str, str]]) -> str:
    """The same for requests that ask the node the same: neither times nor ids are in it.

    ``arrays`` are keys of array records and their digests.
    """
    bare = message_pb2.Message()
    bare.metadata.dst_node_id = node
    bare.metadata.message_type = message.metadata.message_type
    bare.metadata.group_id = message.metadata.group_id
    bare.content.CopyFrom(message.content)
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True))
    for key, sha256 in arrays:
        digest.update(f"\n{key} {sha256}".encode())
    return digest.hexdigest()


def fingerprint_of_task(task: Task) -> str:
    """Of what a task asks."""
    message = message_pb2.Message.FromString(task.message)
    return fingerprint(message, task.node, [(one.key, one.sha256) for one in task.arrays])


def fingerprints(requests: Sequence[Request]) -> dict[int, str]:
    """Of what requests ask, by node."""
    digests: dict[bytes, str] = {}
    found = {}
    for one in requests:
        for _, record in one.arrays:
            if record not in digests:
                digests[record] = hashlib.sha256(record).hexdigest()
        arrays = [(key, digests[record]) for key, record in one.arrays]
        found[one.node] = fingerprint(one.message, one.node, arrays)
    return found


def error_message(task: str, one: Request, run: int, code: str, reason: str) -> bytes:
    """A reply to the request that says why there is none."""
    message = message_pb2.Message()
    message.metadata.CopyFrom(one.message.metadata)
    message.metadata.run_id, message.metadata.reply_to_message_id = run, task
    message.metadata.message_id = ""
    message.metadata.src_node_id, message.metadata.dst_node_id = one.node, SERVER
    message.error.code = FlowerError.NODE_UNAVAILABLE
    message.error.reason = f"{code}: {reason}"
    return message.SerializeToString(deterministic=True)


def written_arrays(arrays: Mapping[str, Float32s]) -> bytes:
    """The array record of float32 arrays, serialised."""
    record = message_pb2.ArrayRecord()
    for name, array in arrays.items():
        record.items.add(key=name, value=npy(np.asarray(array, np.float32)))
    return record.SerializeToString(deterministic=True)


def arrays_of(record: bytes) -> dict[str, Float32s]:
    """The float32 arrays of a record that the controller has made.

    Raises:
        DocumentError: one is something else.
    """
    read = message_pb2.ArrayRecord.FromString(record)
    return {item.key: read_npy(item.value, tuple(item.value.shape)) for item in read.items}


def shapes_of(record: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each array of a record, as it says."""
    read = message_pb2.ArrayRecord.FromString(record)
    return {item.key: (item.value.dtype, tuple(item.value.shape)) for item in read.items}
