"""How long a broker keeps what a controller says."""

import pytest

from controller.transport.mqtt.voice import COMMAND_SECONDS, useful_seconds
from protos.v1 import command_pb2, common_pb2, federated_pb2


def order(remaining_ms: int) -> command_pb2.Command:
    task = federated_pb2.FederatedTask(task_id="t", remaining_ms=remaining_ms)
    return command_pb2.Command(federated=federated_pb2.FederatedOrder(task=task))


@pytest.mark.parametrize(
    ("remaining_ms", "seconds"),
    [(90_001, 91), (1, 1), (0, 1), (-5, 1), (10**9, COMMAND_SECONDS)],
)
def test_a_task_waits_for_a_device_no_longer_than_it_has_time(
    remaining_ms: int, seconds: int
) -> None:
    assert useful_seconds(order(remaining_ms)) == seconds


@pytest.mark.parametrize(
    "command",
    [
        command_pb2.Command(),
        command_pb2.Command(directive=common_pb2.Envelope()),
        command_pb2.Command(federated=federated_pb2.FederatedOrder()),
    ],
)
def test_all_else_waits_an_hour(command: command_pb2.Command) -> None:
    assert useful_seconds(command) == COMMAND_SECONDS
