"""Power goes at any step of a task: what is sent in the end is what would have been sent."""

import asyncio

import pytest

from agent.federated.errors import NotFinite
from agent.federated.machine import MAX_RESUMPTIONS, State
from protos.v1 import federated_pb2
from simulations.power import Power
from tests.agent.federated.world import NOTHING, Device, Orders, parameters, read_reply


async def settled(device: Device, order: federated_pb2.FederatedOrder, power: Power) -> None:
    """The device is told, and works until it rests or power goes."""
    async with device.agent(power) as loop:
        loop.take(order)
        await device.until(lambda: loop.is_settled or power.gone)


async def told_until_done(cut_at: int | None) -> tuple[Device, list[str]]:
    """Two rounds of one run, with a cut at that step of the second; what its steps were."""
    device = Device()
    orders = Orders(device.intake)
    await settled(device, orders.task("t1", seed=1), Power())
    order = orders.task("t2", parameters=parameters(2), seed=2)
    power = Power(cut_at)
    await settled(device, order, power)
    if power.gone:
        again = Power()
        await settled(device, order, again)  # a link is up again, and the controller tells it again
    return device, power.steps


async def test_power_may_go_at_any_step() -> None:
    whole, steps = await told_until_done(None)
    assert len(steps) > 15

    for cut_at in range(len(steps)):
        device, done = await told_until_done(cut_at)

        assert device.intake.replies == whole.intake.replies, done
        assert device.journal.carries == whole.journal.carries, done
        assert device.state == State.DONE
        assert set(device.blobs.complete) == set(whole.blobs.complete), done


async def test_what_was_sent_is_never_made_again() -> None:
    device = Device()
    order = Orders(device.intake).task("t1")
    whole, power = Device(), Power()
    await settled(whole, Orders(whole.intake).task("t1"), power)

    await settled(device, order, Power(power.steps.index("after a piece")))
    assert len(device.trainer.jobs) == len(device.intake.replies) == 1
    assert device.state == State.SENDING, "the receipt was lost"
    await settled(device, order, Power())

    assert device.state == State.DONE
    assert len(device.trainer.jobs) == 1
    assert device.intake.replies == whole.intake.replies


@pytest.mark.parametrize("state", [State.FETCHING, State.TRAINING])
async def test_after_a_restart_it_waits_to_be_told_again(state: State) -> None:
    device = Device()
    orders = Orders(device.intake)
    device.trainer.gate.clear()
    async with device.agent() as loop:
        device.uplink.up = state is State.TRAINING
        loop.take(orders.task("t1"))
        await device.until(lambda: device.state == state and device.uplink.calls > 0)
    device.trainer.gate.set()

    async with device.agent() as loop:
        await device.until(lambda: loop.is_settled)
        assert device.state == State.IDLE
        loop.take(NOTHING)
        await device.until(lambda: device.state == State.GIVEN_UP)

    assert device.intake.replies == {}


async def unsent(device: Device) -> None:
    """The agent ends when it has a reply, and no link to send it over."""
    device.trainer.gate.clear()
    async with device.agent() as loop:
        loop.take(Orders(device.intake).task("t1"))
        await device.trainer.begun.wait()
        device.uplink.up = False
        device.trainer.gate.set()
        await device.until(lambda: device.state == State.SENDING)


async def test_a_reply_is_sent_after_a_restart_though_nobody_has_told_it_again() -> None:
    device = Device()
    await unsent(device)

    async with device.agent():
        await device.until(lambda: device.state == State.DONE)

    assert len(device.trainer.jobs) == 1
    assert "t1" in device.intake.replies


async def interrupted(device: Device, order: federated_pb2.FederatedOrder, *, asked: bool) -> None:
    """The agent ends in the middle of a training."""
    device.trainer.begun.clear()
    async with device.agent() as loop:
        loop.take(order)
        async with asyncio.timeout(10):
            await device.trainer.begun.wait()
    if asked:
        await device.loop.rest()


@pytest.mark.parametrize("asked", [True, False])
async def test_a_task_that_ends_the_agent_again_and_again_is_declined(asked: bool) -> None:
    device = Device()
    order = Orders(device.intake).task("t1")
    device.trainer.gate.clear()
    for _ in range(MAX_RESUMPTIONS + 1):
        await interrupted(device, order, asked=asked)
    device.trainer.gate.set()

    await settled(device, order, Power())

    error = read_reply(device.intake.replies["t1"]).error
    assert error.reason.startswith("keeps-interrupting") != asked
    assert device.state == State.DONE


async def test_a_decline_survives_a_restart() -> None:
    device = Device()
    device.trainer.fails = NotFinite("the loss of step 3")
    await unsent(device)
    async with device.agent() as loop:
        await device.until(lambda: loop.is_settled)

    reply = read_reply(device.intake.replies["t1"])
    assert reply.error.reason == "not-finite: the loss of step 3"


async def test_a_reply_that_the_disk_has_lost_is_given_up() -> None:
    device = Device()
    await unsent(device)
    task = device.journal.task
    assert task is not None
    device.blobs.complete[task.reply] = b"other bytes"

    async with device.agent():
        await device.in_time(lambda: device.state == State.GIVEN_UP)

    assert device.journal.task is not None
    assert device.journal.task.code == "reply-lost"


async def test_a_carry_that_the_disk_has_lost_costs_one_rounding_only() -> None:
    device = Device()
    orders = Orders(device.intake)
    await settled(device, orders.task("t1"), Power())
    carry = device.journal.carry_of("digits-r1")
    device.blobs.complete[carry] = b"other bytes"

    await settled(device, orders.task("t2"), Power())

    assert not read_reply(device.intake.replies["t2"]).HasField("error")
