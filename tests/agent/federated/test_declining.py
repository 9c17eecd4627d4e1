"""What a device can't or won't do it declines, with a code and its words."""

from dataclasses import replace

import numpy as np
import pytest

from agent.errors import AgentError, StoreError
from agent.federated.eligibility import Ground, Terms
from agent.federated.errors import NotFinite, StepRefused, TrainingInterrupted
from agent.federated.machine import State
from agent.federated.reply import FlowerError
from agent.federated.trainer import TrainJob
from agent.federated.update import most_bytes
from agent.install.gates import Battery, Circumstances
from tests.agent.federated.carrying_out import carried_out, declined
from tests.agent.federated.world import (
    SPEC,
    START,
    SUBJECT,
    Device,
    Orders,
    manifest,
    read_reply,
)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"subject": None}, "other-version"),
        ({"subject": replace(SUBJECT, manifest=manifest(4))}, "other-version"),
        (
            {"subject": replace(SUBJECT, ground=Ground(trainable=True, held=0))},
            "too-few-examples",
        ),
        ({"subject": replace(SUBJECT, step=None, ground=Ground(trainable=False))}, "not-trainable"),
    ],
)
async def test_what_it_can_not_learn_it_declines(
    device: Device, orders: Orders, changes: dict[str, object], code: str
) -> None:
    for name, value in changes.items():
        setattr(device, name, value)

    assert declined(await carried_out(device, orders.task())) == (
        FlowerError.NODE_UNAVAILABLE,
        code,
    )
    assert device.trainer.jobs == []
    assert [(one.name, one.code) for one in device.happened] == [("federated.declined", code)]


async def test_a_device_that_is_not_eligible_declines(device: Device, orders: Orders) -> None:
    battery = Battery(90, on_mains=False)
    device.condition = replace(device.condition, circumstances=Circumstances(START, battery))

    reply = await carried_out(device, orders.task())

    assert declined(reply) == (FlowerError.NODE_UNAVAILABLE, "on-battery")
    assert device.uplink.calls == 1, "nothing was fetched"


@pytest.mark.parametrize(
    ("error", "flower", "code"),
    [
        (NotFinite("the loss"), FlowerError.APP_RAISED, "not-finite"),
        (StepRefused("the operator 'If'"), FlowerError.PRECONDITION, "step-refused"),
        (TrainingInterrupted("killed"), FlowerError.NODE_UNAVAILABLE, "training-interrupted"),
        (StoreError("gone"), FlowerError.NODE_UNAVAILABLE, "store"),
        (ZeroDivisionError(), FlowerError.APP_RAISED, "internal"),
    ],
)
async def test_a_training_that_fails_is_declined_with_its_reason(
    device: Device, orders: Orders, error: AgentError | ZeroDivisionError, flower: int, code: str
) -> None:
    device.trainer.fails = error
    expected = error.code if isinstance(error, AgentError) else code

    assert declined(await carried_out(device, orders.task())) == (flower, expected)
    assert device.journal.trained == 0.0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"phase": "query"}, "task-unfit"),
        ({"phase": "train.special"}, "task-unfit"),
        ({"lr": float("nan")}, "task-unfit"),
        ({"batch_size": 0}, "task-unfit"),
        ({"local_epochs": 1.5}, "task-unfit"),
        ({"parameters": {"w": np.zeros(3, np.float32)}}, "parameters-unfit"),
        ({"reply_bytes": 100}, "reply-too-large"),
        ({"seconds": 0.1}, "too-late"),
    ],
)
async def test_a_task_that_does_not_fit_is_declined(
    device: Device, orders: Orders, changes: dict[str, object], code: str
) -> None:
    assert declined(await carried_out(device, orders.task(**changes)))[1] == code  # type: ignore[arg-type]


async def test_parameters_larger_than_the_models_are_not_even_fetched(
    device: Device, orders: Orders
) -> None:
    order = orders.task()
    order.task.arrays[0].length = most_bytes(SPEC) + 1

    assert declined(await carried_out(device, order))[1] == "parameters-unfit"
    assert device.uplink.calls == 1


@pytest.mark.parametrize("field", ["message", "arrays", "encoding"])
async def test_an_order_that_can_not_be_read_is_declined(
    device: Device, orders: Orders, field: str
) -> None:
    order = orders.task()
    if field == "message":
        order.task.message = b"\xff\xff"
    elif field == "arrays":
        order.task.arrays.add()
    else:
        order.task.encoding = 9  # type: ignore[assignment]

    reply = await carried_out(device, order)

    assert declined(reply) == (FlowerError.PRECONDITION, "task-unfit")
    assert read_reply(reply).metadata.reply_to_message_id == "t1"


async def test_an_order_without_an_id_is_dropped(device: Device, orders: Orders) -> None:
    async with device.agent() as loop:
        loop.take(orders.task("t 1"))
        loop.take(orders.task("t2"))
        await device.until(lambda: device.state == State.DONE)

    assert list(device.intake.replies) == ["t2"]


async def test_unknown_keys_and_kinds_of_configuration_are_left_alone(
    device: Device, orders: Orders
) -> None:
    await carried_out(device, orders.task(server_round=4, colour="red", secret=b"x", lr=1))

    (job,) = device.trainer.jobs
    assert isinstance(job, TrainJob)
    assert job.plan.learning_rate == 1.0


@pytest.mark.parametrize(("steps", "code"), [(1, "task-unfit"), (4, "task-unfit"), (5, "")])
async def test_no_update_shows_fewer_examples_than_the_owner_allows(
    device: Device, orders: Orders, steps: int, code: str
) -> None:
    device.terms = Terms(examples=10)
    reply = await carried_out(device, orders.task(batch_size=2, max_steps=steps))

    assert read_reply(reply).HasField("error") == bool(code)
    assert not code or declined(reply)[1] == code


async def test_terms_are_the_owners_whatever_a_run_asks_for(device: Device, orders: Orders) -> None:
    device.terms = Terms(examples=100)

    assert declined(await carried_out(device, orders.task(min_examples=1)))[1] == "too-few-examples"
