"""Orders from the controller, as hostile as they come."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.federated.errors import TaskUnfit
from agent.federated.order import (
    MESSAGE_BYTES,
    MOST_MILLISECONDS,
    message_of,
    phase_of,
    plan_of,
    read_order,
    read_request,
)
from agent.federated.trainer import Plan
from protos.v1 import federated_pb2
from simulations.memory_intake import MemoryIntake
from tests.agent.federated.world import Orders

KEYS = ["lr", "local-epochs", "batch-size", "momentum", "proximal-mu", "max-steps", "seed"]
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.text(max_size=5),
    st.binary(max_size=5),
)


def task(**config: Any) -> federated_pb2.FederatedOrder:
    return Orders(MemoryIntake()).task("t1", **config)


def plan(order: federated_pb2.FederatedOrder) -> Plan:
    read = read_order(order)
    assert read is not None
    return plan_of(read_request(read), read.id)


def test_a_plan_has_what_the_strategy_sends() -> None:
    order = task(lr=0.5, local_epochs=3, batch_size=8, momentum=0.9, proximal_mu=0.1, max_steps=7)

    assert plan(order) == Plan(
        learning_rate=0.5, epochs=3, batch=8, momentum=0.9, proximal=0.1, most_steps=7, seed=1
    )


def test_numbers_may_be_of_either_kind() -> None:
    found = plan(task(lr=1, local_epochs=2.0))

    assert (found.learning_rate, found.epochs) == (1.0, 2)
    assert isinstance(found.epochs, int)


def test_without_a_seed_the_task_is_one() -> None:
    order = task()
    message = message_of(read_order(order))  # type: ignore[arg-type]
    del message.content.items[:]
    order.task.message = message.SerializeToString()
    other = federated_pb2.FederatedOrder(task=order.task)
    other.task.task_id = "t2"

    assert plan(order).seed == plan(order).seed != plan(other).seed
    assert plan(order).epochs == Plan().epochs


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_configuration_is_a_plan_or_refused_by_its_key(config: dict[str, Any]) -> None:
    order = task(**{key.replace("-", "_"): value for key, value in config.items()})
    refused = ""
    found = Plan()
    try:
        found = plan(order)
    except TaskUnfit as error:
        refused = error.detail

    assert not refused or any(repr(key) in refused for key in config)
    assert found.epochs >= 1
    assert found.batch >= 1
    assert 0 <= found.learning_rate < float("inf")


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    order = task()
    order.task.message = data
    read = read_order(order)
    assert read is not None

    with pytest.raises(TaskUnfit):
        read_request(read)
    assert message_of(read).metadata.message_id == "t1"
    assert len(phase_of(read)) <= 40


def test_a_message_that_is_too_large_is_not_parsed() -> None:
    order = task()
    order.task.message += bytes(MESSAGE_BYTES)
    read = read_order(order)
    assert read is not None

    with pytest.raises(TaskUnfit, match="too large"):
        read_request(read)


@pytest.mark.parametrize(
    ("remaining_ms", "seconds"),
    [(-5, 0.0), (1500, 1.5), (2**62, MOST_MILLISECONDS / 1000)],
)
def test_the_time_that_is_left_is_bounded(remaining_ms: int, seconds: float) -> None:
    order = task()
    order.task.remaining_ms = remaining_ms
    read = read_order(order)

    assert read is not None
    assert read.seconds == seconds


@pytest.mark.parametrize("id", ["", "a b", "x" * 129, "../t", "t\n"])
def test_a_task_without_a_usable_id_can_not_be_answered(id: str) -> None:  # noqa: A002
    order = task()
    order.task.task_id = id

    with pytest.raises(TaskUnfit, match="task_id"):
        read_order(order)


@pytest.mark.parametrize(("sha256", "length"), [("", 5), ("A" * 64, 5), ("a" * 64, 0)])
def test_parameters_must_be_named_by_digest_and_length(sha256: str, length: int) -> None:
    order = task()
    order.task.arrays[0].sha256, order.task.arrays[0].length = sha256, length
    read = read_order(order)
    assert read is not None

    with pytest.raises(TaskUnfit, match="arrays"):
        read_request(read)


def test_an_order_without_a_task_is_that_nothing_is_to_be_done() -> None:
    assert read_order(federated_pb2.FederatedOrder()) is None
