"""A reply is sent until the controller has it: over links that end, in pieces, once."""

from dataclasses import replace

import msgspec
import numpy as np

from agent.federated.machine import State
from agent.federated.step_file import StepFile
from agent.federated.task.loop import MOST_PATIENCE_SECONDS
from protos.limits import CHUNK_BYTES
from protos.train_step import Parameter
from tests.agent.federated.carrying_out import carried_out
from tests.agent.federated.world import (
    NOTHING,
    SPEC,
    SUBJECT,
    Device,
    Orders,
)


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


async def test_who_is_asked_for_patience_sends_the_same_again_then(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        device.uplink.patience_ms = 90_000
        loop.take(orders.task("t1"))
        await device.until(lambda: device.uplink.put_off == 1)
        device.uplink.patience_ms = 0
        await device.in_time(lambda: device.state == State.DONE)

    assert 90 <= device.clock.seconds <= 90 * 1.25 + 1
    assert list(device.intake.replies) == ["t1"]


async def test_whoever_is_at_the_end_of_a_new_link_is_asked_at_once(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        device.uplink.patience_ms = 600_000
        loop.take(orders.task("t1"))
        await device.until(lambda: device.uplink.put_off == 1)
        device.uplink.patience_ms = 0
        loop.link_up()
        await device.until(lambda: device.state == State.DONE)

    assert device.clock.seconds < 1


async def test_who_is_asked_for_next_to_no_patience_has_more(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        device.uplink.patience_ms = 1
        loop.take(orders.task("t1"))
        await device.in_time(lambda: device.uplink.put_off == 8)
        device.uplink.patience_ms = 0
        await device.in_time(lambda: device.state == State.DONE)

    assert device.clock.seconds > 8


async def test_parameters_that_can_not_be_had_just_now_are_asked_for_again(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        device.uplink.crowded = 2
        loop.take(orders.task("t1"))
        await device.in_time(lambda: device.state == State.DONE)

    assert len(device.trainer.jobs) == 1


async def test_nobody_is_kept_from_sending_for_longer_than_is_sane(
    device: Device, orders: Orders
) -> None:
    async with device.agent() as loop:
        device.uplink.patience_ms = 10**15
        loop.take(orders.task("t1"))
        await device.until(lambda: device.uplink.put_off == 1)
        device.uplink.patience_ms = 0
        await device.in_time(lambda: device.state == State.DONE)

    assert device.clock.seconds <= MOST_PATIENCE_SECONDS * 1.25 + 1


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
