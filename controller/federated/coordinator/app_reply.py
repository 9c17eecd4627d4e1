"""What a user's own app gets of a device's reply: what was admitted, as Flower sends it."""

from collections.abc import Mapping

from agent.federated.reply import EXAMPLES, METRICS
from controller.federated.coordinator.admission import (
    Admitted,
    Judgement,
    Refused,
    Terms,
    judged_evaluation,
    judged_metrics,
    judged_update,
    odd_ones,
    outliers,
    update_of,
)
from controller.federated.coordinator.errors import AppUnfit
from controller.federated.coordinator.request import SERVER, Float32s, arrays_of, written_arrays
from controller.federated.exchange import Exchange
from controller.federated.plan import AdmissionTable
from controller.federated.task import Phase, Task
from protos.errors import DocumentError
from protos.flower import message_pb2


def terms_of(table: AdmissionTable, key: str) -> Terms:
    """What a run file's ``[admission]`` asks of an update under ``key``."""
    return Terms(key, table.most_examples, table.norm_bound, table.norm_ratio)


def judged_reply(data: bytes, task: Task, exchange: Exchange, table: AdmissionTable) -> Judgement:
    """Whether a device's reply to an app's message counts.

    Raises:
        AppUnfit: the app sent arrays that no device can train.
    """
    match task.phase:
        case Phase.TRAIN:
            return judged_update(data, task, terms_of(table, _key(task)), _base(task, exchange))
        case Phase.EVALUATE:
            return judged_evaluation(data, task)
        case Phase.QUERY:
            return judged_metrics(data, task)


def odd_or_outlying(admitted: Mapping[int, Admitted], ratio: float) -> dict[int, Refused]:
    """Whose metrics Flower could not aggregate with the others', and whose updates are too long."""
    odd = odd_ones(admitted)
    return odd | outliers({node: one for node, one in admitted.items() if node not in odd}, ratio)


def reply_of(data: bytes, task: Task, exchange: Exchange, table: AdmissionTable) -> bytes:
    """The reply that was admitted: its arrays as float32, its weight capped, its metadata ours."""
    given = message_pb2.Message.FromString(data)
    asked = message_pb2.Message.FromString(task.message)
    reply = message_pb2.Message()
    metadata = reply.metadata
    metadata.run_id, metadata.message_id = asked.metadata.run_id, f"{task.id}-reply"
    metadata.src_node_id, metadata.dst_node_id = task.node, SERVER
    metadata.reply_to_message_id, metadata.group_id = task.id, asked.metadata.group_id
    metadata.message_type, metadata.ttl = asked.metadata.message_type, asked.metadata.ttl
    metadata.created_at = asked.metadata.created_at
    if task.phase is Phase.TRAIN:
        terms = terms_of(table, _key(task))
        arrays = written_arrays(update_of(data, terms, _base(task, exchange)))
        item = reply.content.items.add(key=terms.key)
        item.array_record.CopyFrom(message_pb2.ArrayRecord.FromString(arrays))
    for item in given.content.items:
        if item.WhichOneof("value") == "metric_record":
            kept = reply.content.items.add(key=METRICS)
            kept.metric_record.CopyFrom(item.metric_record)
            _cap(kept.metric_record, table.most_examples)
    return reply.SerializeToString(deterministic=True)


def _cap(record: message_pb2.MetricRecord, most: int) -> None:
    for item in record.items:
        kind = item.value.WhichOneof("value")
        if item.key == EXAMPLES and kind in {"sint64", "uint64", "double"}:
            setattr(item.value, kind, min(getattr(item.value, kind), most))


def _key(task: Task) -> str:
    if len(task.arrays) != 1:
        raise AppUnfit(f"a device trains one array record; the app sent {len(task.arrays)}")
    return task.arrays[0].key


def _base(task: Task, exchange: Exchange) -> Mapping[str, Float32s]:
    try:
        return arrays_of(exchange.arrays(task.arrays[0].sha256))
    except DocumentError as error:
        raise AppUnfit(f"a device trains float32 arrays: {error.detail}") from error
