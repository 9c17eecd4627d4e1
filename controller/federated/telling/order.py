"""What a device is told of the task that it has just now."""

from typing import Final

from controller.federated.run import Run
from controller.federated.task import Encoding, Task
from protos.v1 import command_pb2, federated_pb2

_ENCODINGS: Final = {
    Encoding.FLOAT32: federated_pb2.UPDATE_ENCODING_FLOAT32,
    Encoding.INT8_STEP: federated_pb2.UPDATE_ENCODING_INT8_STEP,
}


def order_command(run: Run | None, task: Task | None, now_ms: int) -> bytes:
    """The serialised ``muster.v1.Command``: the task, or that there is none.

    There is none once its deadline is over: a reply would come too late.
    """
    order = federated_pb2.FederatedOrder()
    if run is not None and task is not None and now_ms < task.deadline_ms:
        order.task.CopyFrom(_wire(run, task, now_ms))
    return command_pb2.Command(federated=order).SerializeToString()


def _wire(run: Run, task: Task, now_ms: int) -> federated_pb2.FederatedTask:
    return federated_pb2.FederatedTask(
        task_id=task.id,
        run=task.run,
        round=task.round,
        model=run.model,
        version=run.version,
        manifest_sha256=run.manifest_sha256,
        message=task.message,
        arrays=[
            federated_pb2.ArrayReference(key=one.key, sha256=one.sha256, length=one.length)
            for one in task.arrays
        ],
        encoding=_ENCODINGS[task.encoding],
        remaining_ms=task.deadline_ms - now_ms,
        reply_bytes=task.reply_bytes,
    )
