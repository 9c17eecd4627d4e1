"""One test for each private name of Flower's that we use: it fails when Flower changes it."""

import inspect

import flwr
import flwr.app
import flwr.serverapp
import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import exception
from flwr.serverapp.strategy import FedAvg, Result, Strategy
from flwr.supercore.task_identity import TaskIdentity

from agent.federated.reply import FlowerError
from controller.federated.coordinator import flower_private
from controller.federated.coordinator.flower import FleetGrid
from controller.federated.coordinator.request import SERVER
from controller.federated.task import node_id


@pytest.fixture
def message() -> Message:
    flower_private.identify(77)
    return Message(RecordDict(), 12, "train")


def test_the_process_says_once_whose_messages_it_makes() -> None:
    flower_private.identify(78)

    metadata = Message(RecordDict(), 12, "train").metadata

    assert (metadata.run_id, metadata.src_node_id, metadata.src_task_id) == (78, SERVER, 1)
    assert TaskIdentity.run_id == 78


def test_the_server_is_node_one_and_no_device_is() -> None:
    assert flower_private.SERVER == SUPERLINK_NODE_ID == SERVER == 1
    assert node_id("cam-1") > 1


def test_a_message_is_written_and_read(message: Message) -> None:
    again = flower_private.read(flower_private.written(message))

    assert again.metadata == message.metadata


def test_a_message_can_be_given_its_id_and_run(message: Message) -> None:
    flower_private.name_message(message, "m-9", 99)

    assert (message.metadata.message_id, message.metadata.run_id) == ("m-9", 99)
    assert Message(RecordDict(), reply_to=message).metadata.reply_to_message_id == "m-9"


def test_what_flowers_strategies_raise_is_what_we_catch() -> None:
    for error in (exception.AggregationError, exception.InconsistentMessageReplies):
        assert issubclass(error, flower_private.FlowerFailed)


def test_results_of_a_start_are_seen_and_start_is_put_back(message: Message) -> None:
    before = Strategy.start
    with flower_private.results() as found:
        strategy = FedAvg(fraction_evaluate=0.0, fraction_train=0.0)
        arrays = flwr.app.ArrayRecord()
        result = strategy.start(grid=object(), initial_arrays=arrays, num_rounds=0)  # type: ignore[arg-type]

    assert found == [result]
    assert isinstance(result, Result)
    assert Strategy.start is before


def test_flowers_codes_are_those_that_devices_send() -> None:
    assert FlowerError.APP_RAISED == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert FlowerError.NODE_UNAVAILABLE == ErrorCode.NODE_UNAVAILABLE
    assert FlowerError.PRECONDITION == ErrorCode.MOD_FAILED_PRECONDITION


def test_our_grid_has_all_that_flowers_grid_asks_for() -> None:
    wanted = {
        name
        for name, one in inspect.getmembers(flwr.serverapp.Grid)
        if getattr(one, "__isabstractmethod__", False)
    }

    assert wanted == {
        *("create_message", "get_node_ids", "pull_messages", "push_messages"),
        *("run", "send_and_receive", "set_run"),
    }
    assert not inspect.isabstract(FleetGrid)
