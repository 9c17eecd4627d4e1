"""What comes of an order to a device."""

from protos.v1 import federated_pb2
from tests.agent.federated.world import Device, read_reply


async def carried_out(device: Device, order: federated_pb2.FederatedOrder) -> bytes:
    """The reply to the order, once the device has nothing left to do for it."""
    async with device.agent() as loop:
        loop.take(order)
        await device.until(lambda: loop.is_settled)
    return device.intake.replies.get(order.task.task_id, b"")


def declined(reply: bytes) -> tuple[int, str]:
    read = read_reply(reply)
    assert not read.HasField("content")
    return read.error.code, read.error.reason.partition(":")[0]
