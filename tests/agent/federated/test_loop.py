"""A device that is told tasks, over a controller in memory: what it sends, and what it does not do."""

import asyncio
from dataclasses import replace

import numpy as np

from agent.federated.machine import State
from agent.federated.reply import FlowerError
from agent.federated.trainer import Plan, TrainJob
from agent.install.gates import Battery, Circumstances
from protos.flower.arrays import INT8_STEP, NPY, read_array
from tests.agent.federated.carrying_out import carried_out, declined
from tests.agent.federated.world import (
    NOTHING,
    SHAPES,
    START,
    Device,
    Orders,
    arrays_of,
    drawn,
    metrics_of,
    parameters,
    read_reply,
)


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
