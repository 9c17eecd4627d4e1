"""Replies to tasks as Flower's messages.

A reply has the times of the message that it answers: no device's clock is believed, and the same
reply is the same bytes whenever it is made.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final

from agent.federated.evaluation import Evaluation, Metrics
from agent.federated.trainer import TrainResult
from protos.flower import message_pb2

EXAMPLES: Final = "num-examples"
"""What Flower's strategies weigh a reply by."""

METRICS: Final = "metrics"
"""The key of the metric record; Flower asks for one only, and the same keys of every device."""

REASON_CHARACTERS: Final = 500

Value = int | float | Sequence[int] | Sequence[float]


class FlowerError(IntEnum):
    """Flower's codes, as far as a device has a use for them."""

    APP_RAISED = 2  # it tried, and failed
    NODE_UNAVAILABLE = 5  # not now
    PRECONDITION = 6  # what was asked does not fit the device


def train_reply(
    request: message_pb2.Message, key: str, update: message_pb2.ArrayRecord, result: TrainResult
) -> bytes:
    """A serialised reply: the update under ``key``, and what it weighs."""
    metrics = train_metrics(result)
    arrays = message_pb2.RecordDict.Item(key=key, array_record=update)
    return _written(request, message_pb2.RecordDict(items=[arrays, _metric_record(metrics)]))


def evaluate_reply(request: message_pb2.Message, evaluation: Evaluation) -> bytes:
    """A serialised reply: means, as Flower weighs them, and the counts that can be added up."""
    metrics = evaluate_metrics(evaluation)
    return _written(request, message_pb2.RecordDict(items=[_metric_record(metrics)]))


def train_metrics(result: TrainResult) -> Metrics:
    """What a device tells of its training: what the update weighs, losses, steps."""
    return {
        EXAMPLES: result.examples,
        "train_loss": result.last_loss,
        "train_loss_first": result.first_loss,
        "steps": result.steps,
    }


def evaluate_metrics(evaluation: Evaluation) -> Metrics:
    """What a device tells of an evaluation."""
    metrics: dict[str, int | float | list[int] | list[float]] = {
        EXAMPLES: evaluation.examples,
        "eval_loss": evaluation.loss or 0.0,
        **evaluation.metrics(),
    }
    if evaluation.accuracy is not None:
        metrics["eval_acc"] = evaluation.accuracy
    return metrics


def error_reply(request: message_pb2.Message, error: FlowerError, code: str, words: str) -> bytes:
    """A serialised reply that says why not: ``CODE: words``."""
    reply = _reply(request)
    reply.error.code = error
    reply.error.reason = f"{code}: {words}"[:REASON_CHARACTERS]
    return reply.SerializeToString(deterministic=True)


def _written(request: message_pb2.Message, content: message_pb2.RecordDict) -> bytes:
    reply = _reply(request)
    reply.content.CopyFrom(content)
    return reply.SerializeToString(deterministic=True)


def _reply(request: message_pb2.Message) -> message_pb2.Message:
    asked = request.metadata
    metadata = message_pb2.Metadata(
        run_id=asked.run_id,
        src_node_id=asked.dst_node_id,
        dst_node_id=asked.src_node_id,
        reply_to_message_id=asked.message_id,
        group_id=asked.group_id,
        ttl=asked.ttl,
        message_type=asked.message_type,
        created_at=asked.created_at,
    )
    if asked.HasField("src_task_id"):
        metadata.dst_task_id = asked.src_task_id
    if asked.HasField("dst_task_id"):
        metadata.src_task_id = asked.dst_task_id
    return message_pb2.Message(metadata=metadata)


def _metric_record(metrics: Mapping[str, Value]) -> message_pb2.RecordDict.Item:
    items = [
        message_pb2.MetricRecord.Item(key=key, value=_metric(value))
        for key, value in metrics.items()
    ]
    record = message_pb2.MetricRecord(items=items)
    return message_pb2.RecordDict.Item(key=METRICS, metric_record=record)


def _metric(value: Value) -> message_pb2.MetricRecordValue:
    """As Flower writes it: whole numbers signed, an empty list as one of whole numbers."""
    if isinstance(value, int):
        return message_pb2.MetricRecordValue(sint64=value)
    if isinstance(value, float):
        return message_pb2.MetricRecordValue(double=value)
    if all(isinstance(one, int) for one in value):
        whole = message_pb2.SintList(vals=[int(one) for one in value])
        return message_pb2.MetricRecordValue(sint_list=whole)
    return message_pb2.MetricRecordValue(double_list=message_pb2.DoubleList(vals=list(value)))
