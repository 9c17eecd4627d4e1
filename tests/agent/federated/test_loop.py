"""A device that is told tasks, over a controller in memory: what it sends, and what it does not do."""

import asyncio
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from agent.errors import AgentError, StoreError
from agent.federated.eligibility import Ground, Terms
from agent.federated.errors import NotFinite, StepRefused, TrainingInterrupted
from agent.federated.machine import State
from agent.federated.reply import FlowerError
from agent.federated.step_file import StepFile
from agent.federated.trainer import Plan, TrainJob
from agent.federated.update import most_bytes
from agent.install.gates import Battery, Circumstances
from protos.flower.arrays import INT8_STEP, NPY, read_array
from protos.limits import CHUNK_BYTES
from protos.train_step import Parameter
from protos.v1 import federated_pb2
from tests.agent.federated.world import (
    NOTHING,
    SHAPES,
    SPEC,
    START,
    SUBJECT,
    Device,
    Orders,
    arrays_of,
    drawn,
    manifest,
    metrics_of,
    parameters,
    read_reply,
)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def orders(device: Device) -> Orders:
    return Orders(device.intake)


async def carried_out(device: Device, order: federated_pb2.FederatedOrder) -> bytes:
    """The reply to the order, once the device has nothing left to do for it."""
    async with device.agent() as loop:
        loop.take(order)
        await device.until(lambda: loop.is_settled)
    return device.intake.replies.get(order.task.task_id, b"")


async def test_it_trains_and_sends_a_flower_message(device: Device, orders: Orders) -> None:
    reply = read_reply(await carried_out(device, orders.task("t1", int8=False, lr=0.125)))

    assert reply.metadata.reply_to_message_id == "t1"
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (2**63 + 5, 1)
    assert (reply.metadata.run_id, reply.metadata.message_type) == (77, "train")
    assert metrics_of(reply) == {
        "num-examples": 40,
        "train_loss": 0.5,
        "train_loss_first": 2.0,
        "steps": 10,
    }
    assert [(item.key, item.value.stype) for item in arrays_of(reply).items] == [
        (name, NPY) for name in SHAPES
    ]
    (job,) = device.trainer.jobs
    assert isinstance(job, TrainJob)
    assert job.plan == Plan(learning_rate=0.125, seed=1)
    assert [one.name for one in device.happened] == ["federated.trained"]
    assert device.happened[0].detail == "10 steps on 40 examples, loss 0.5"


async def test_a_run_of_int8_updates_loses_nothing_to_rounding(
    device: Device, orders: Orders
) -> None:
    """What the trainer moved by in all rounds, and what the controller read, differ by one rounding."""
    before = parameters()
    sent = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for number in range(6):
        order = orders.task(f"t{number}", parameters=before, seed=3)
        for item in arrays_of(read_reply(await carried_out(device, order))).items:
            assert item.value.stype == INT8_STEP
            sent[item.key] += read_array(item.value, before[item.key]) - before[item.key]

    rng = np.random.default_rng(3)
    for name, shape in SHAPES.items():
        once = drawn(rng, shape)
        unit = float(np.abs(once).max()) / 127
        assert np.abs(sent[name] - 6 * once).max() <= 1.1 * unit


async def test_it_evaluates_and_sends_counts(device: Device, orders: Orders) -> None:
    reply = read_reply(await carried_out(device, orders.task("e1", phase="evaluate")))

    metrics = metrics_of(reply)
    assert (metrics["num-examples"], metrics["eval_loss"], metrics["eval_acc"]) == (10, 0.4, 0.7)
    assert (metrics["confusion"], metrics["correct"]) == ([3, 2, 1, 4], 7)
    assert [item.key for item in reply.content.items] == ["metrics"]
    assert device.happened[0].name == "federated.evaluated"


async def test_parameters_that_came_before_are_not_fetched_again(
    device: Device, orders: Orders
) -> None:
    await carried_out(device, orders.task("e1", phase="evaluate"))
    after_the_first = device.uplink.calls
    async with device.agent() as loop:
        loop.take(orders.task("t2", int8=False))
        await device.until(lambda: "t2" in device.intake.replies)
        await device.until(lambda: loop.is_settled)

    assert after_the_first == 2
    assert device.uplink.calls == 1
    assert len(device.blobs.complete) == 2  # the parameters, and the reply


async def test_what_is_over_is_let_go(device: Device, orders: Orders) -> None:
    for number in range(4):
        await carried_out(device, orders.task(f"t{number}", parameters=parameters(number)))

    assert len(device.blobs.complete) == 3  # parameters, the last reply, and what it rounded away
    assert device.blobs.partial == {}


# --- Declining ------------------------------------------------------------------------------------


def declined(reply: bytes) -> tuple[int, str]:
    read = read_reply(reply)
    assert not read.HasField("content")
    return read.error.code, read.error.reason.partition(":")[0]


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


# --- Time, links and newer orders -----------------------------------------------------------------


async def test_a_newer_order_ends_what_is_under_way(device: Device, orders: Orders) -> None:
    device.trainer.gate.clear()
    async with device.agent() as loop:
        loop.take(orders.task("t1"))
        await device.trainer.begun.wait()
        device.trainer.gate.set()
        loop.take(orders.task("t2"))
        await device.until(lambda: "t2" in device.intake.replies)

    assert device.trainer.ended == 2
    assert list(device.intake.replies) == ["t2"]


async def test_an_empty_order_ends_what_is_under_way(device: Device, orders: Orders) -> None:
    device.trainer.gate.clear()
    async with device.agent() as loop:
        loop.take(orders.task("t1"))
        await device.trainer.begun.wait()
        loop.take(NOTHING)
        await device.until(lambda: device.state == State.GIVEN_UP)

        assert device.trainer.ended == 1
        assert device.intake.pieces == []


async def test_the_same_order_again_changes_nothing_but_the_deadline(
    device: Device, orders: Orders
) -> None:
    device.trainer.gate.clear()
    async with device.agent() as loop:
        loop.take(orders.task("t1", seconds=30))
        await device.trainer.begun.wait()
        device.clock.go(20)
        loop.take(orders.task("t1", seconds=600))
        device.clock.go(100)
        await asyncio.sleep(0)
        device.trainer.gate.set()
        await device.until(lambda: device.state == State.DONE)

    assert len(device.trainer.jobs) == 1
    assert not read_reply(device.intake.replies["t1"]).HasField("error")


async def test_what_is_not_done_in_time_is_declined_while_that_still_helps(
    device: Device, orders: Orders
) -> None:
    device.trainer.gate.clear()
    async with device.agent() as loop:
        loop.take(orders.task("t1", seconds=30))
        await device.trainer.begun.wait()
        device.clock.go(28)
        await device.until(lambda: device.state == State.DONE)

    assert declined(device.intake.replies["t1"]) == (FlowerError.NODE_UNAVAILABLE, "too-late")
    assert device.trainer.ended == 1


async def test_when_its_plug_is_pulled_it_ends_what_it_has_begun(
    device: Device, orders: Orders
) -> None:
    device.trainer.gate.clear()
    async with device.agent() as loop:
        loop.take(orders.task("t1", seconds=600))
        await device.trainer.begun.wait()
        battery = Battery(90, on_mains=False)
        device.condition = replace(device.condition, circumstances=Circumstances(START, battery))
        await device.in_time(lambda: device.state == State.DONE)

    assert declined(device.intake.replies["t1"]) == (FlowerError.NODE_UNAVAILABLE, "on-battery")
    assert device.clock.seconds < 300, "long before the deadline"


async def test_at_its_own_pace_it_knows_beforehand_what_takes_too_long(
    device: Device, orders: Orders
) -> None:
    await carried_out(device, orders.task("t1", local_epochs=5))  # 0.1 s a step
    reply = await carried_out(device, orders.task("t2", local_epochs=5000, seconds=30))

    assert declined(reply)[1] == "too-late"
    assert len(device.trainer.jobs) == 1


async def test_one_slow_training_does_not_keep_it_out_for_ever(
    device: Device, orders: Orders
) -> None:
    await carried_out(device, orders.task("t0", local_epochs=5))
    wished = {"local_epochs": 5000, "seconds": 30}
    for number in range(1, 9):
        await carried_out(device, orders.task(f"t{number}", **wished))  # type: ignore[arg-type]

    assert 2 <= len(device.trainer.jobs) <= 9


async def test_it_waits_for_a_link_and_goes_on_at_once_when_there_is_one(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        device.uplink.up = False
        loop.take(orders.task("t1"))
        await device.uplink.tried.wait()
        await device.until(lambda: bool(device.clock.sleepers))
        assert device.state == State.FETCHING
        device.uplink.up = True
        loop.link_up()
        await device.until(lambda: device.state == State.DONE)

    assert device.clock.seconds == 0


async def test_a_reply_goes_on_where_the_controller_has_it(device: Device, orders: Orders) -> None:
    big = msgspec.structs.replace(SPEC, parameters=(Parameter("w", (700, 300)),))
    device.subject = replace(SUBJECT, step=StepFile(big, classes=0))
    whole = {"w": np.ones((700, 300), np.float32)}
    order = orders.task("t1", int8=False, parameters=whole)
    async with device.agent() as loop:
        loop.take(order)
        await device.until(lambda: len(device.intake.pieces) == 2)
        device.uplink.up = False
        await device.until(lambda: device.uplink.calls == 4)  # the third piece fails
        device.intake.partial["t1"] = device.intake.partial["t1"][:1000]  # a disk that lost some
        device.uplink.up = True
        await device.in_time(lambda: device.state == State.DONE)

    offsets = [offset for _, offset, _ in device.intake.pieces]
    assert offsets[:2] == [0, CHUNK_BYTES]
    assert 1000 in offsets
    assert len(device.intake.replies["t1"]) > 3 * CHUNK_BYTES
    assert len(device.trainer.jobs) == 1


async def test_a_reply_that_nobody_wants_is_forgotten(device: Device, orders: Orders) -> None:
    device.intake.unwanted["t1"] = "too-late"
    async with device.agent() as loop:
        loop.take(orders.task("t1"))
        await device.until(lambda: device.state == State.GIVEN_UP)
        await device.until(lambda: len(device.blobs.complete) == 1)  # the parameters

        task = device.journal.task
        assert task is not None
        assert (task.code, task.reply, task.carry) == ("too-late", "", "")
        assert (device.journal.carries, device.journal.trained) == ((), 0.0)
        assert device.happened[-1].name == "federated.refused"


async def test_a_reply_that_was_damaged_on_its_way_is_sent_again(
    device: Device, orders: Orders
) -> None:
    device.intake.damaged.add("t1")
    async with device.agent() as loop:
        loop.take(orders.task("t1"))
        await device.in_time(lambda: device.state == State.DONE)

    assert "t1" in device.intake.replies
    assert [offset for _, offset, _ in device.intake.pieces] == [0, 0]


async def test_an_empty_order_does_not_stop_a_reply_from_being_acknowledged(
    device: Device, orders: Orders
) -> None:
    """The controller says that there is nothing to do as soon as it has the reply."""
    async with device.agent() as loop:
        device.uplink.up = True
        loop.take(orders.task("t1"))
        await device.until(lambda: device.state == State.SENDING)
        device.uplink.up = False
        loop.take(NOTHING)
        await device.until(lambda: bool(device.clock.sleepers))
        device.uplink.up = True
        loop.link_up()
        await device.until(lambda: device.state == State.DONE)

    assert "t1" in device.intake.replies
    assert device.journal.carry_of("digits-r1") != ""


async def test_a_newer_order_waits_until_the_reply_before_it_is_settled(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        loop.take(orders.task("t1"))
        await device.until(lambda: device.state == State.SENDING)
        device.uplink.up = False
        loop.take(orders.task("t2"))
        await device.until(lambda: bool(device.clock.sleepers))
        device.uplink.up = True
        loop.link_up()
        await device.until(lambda: "t2" in device.intake.replies)

    assert list(device.intake.replies) == ["t1", "t2"]


async def test_a_task_that_is_told_again_gets_the_reply_that_it_had(
    device: Device, orders: Orders
) -> None:
    order = orders.task("t1")
    first = await carried_out(device, order)
    device.intake.replies.clear()

    async with device.agent() as loop:
        loop.take(order)
        await device.until(lambda: "t1" in device.intake.replies)

    assert device.intake.replies["t1"] == first
    assert len(device.trainer.jobs) == 1


async def test_it_rests_as_long_as_it_was_told_and_a_part_of_that_more(
    device: Device, orders: Orders
) -> None:
    device.intake.rest_ms = 60_000
    await carried_out(device, orders.task("t1"))

    now = device.clock.now().timestamp()
    assert 60 <= device.journal.rest.left(now) <= 75
    assert device.journal.rest.left(now + 76) == 0


async def test_a_disk_that_is_full_for_a_while_costs_time_only(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        device.blobs.capacity = 6000  # the parameters fit, the reply does not
        loop.take(orders.task("t1"))
        await device.until(lambda: bool(device.trainer.jobs) and len(device.clock.sleepers) == 1)
        device.blobs.capacity = 1 << 30
        await device.in_time(lambda: device.state == State.DONE)

    assert not read_reply(device.intake.replies["t1"]).HasField("error")
    assert len(device.trainer.jobs) == 1


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
