"""Who is there: what a broker can make controllers think of it, and what it can't."""

import asyncio
import itertools

import pytest

from agent.errors import TransportError
from agent.identity import keys
from protos.methods import FACTS
from protos.mqtt import topics
from protos.mqtt.sealing import UP, seal
from protos.mqtt.topics import Leaf
from protos.v1 import mqtt_pb2
from tests.attacks.mqtt.between import Parcel, Toward, honest
from tests.attacks.mqtt.fleet import Fleet, answers
from tests.attacks.mqtt.forgery import death, said


async def test_nobody_is_dead_who_has_not_said_so(fleet: Fleet) -> None:
    link = await fleet.link("d1")
    d1, d2 = await fleet.machine("d1"), await fleet.machine("d2")
    forged = (
        death("d1", 1, keys.signer(keys.generate_key())),
        death("d1", 1, d2.signer),
        death("d2", 1, d1.signer).but(topic=topics.death("d1")),
        death("d1", 0, d1.signer),
        death("d1", 2, d1.signer),
        Parcel(Toward.CONTROLLERS, topics.death("d1"), b""),
        *(one.but(topic=topics.death("d1")) for one in fleet.middle.of(Leaf.IN)),
    )

    await fleet.middle.deliver(*forged)

    assert await answers(link)
    await link.publish(FACTS, b"facts")
    assert fleet.centre.presence == [("up", "d1")]


async def test_a_death_ends_its_own_session_and_no_later_one(fleet: Fleet) -> None:
    await (await fleet.link("d1")).close()
    await fleet.centre.until(lambda: ("down", "d1") in fleet.centre.presence)
    told = fleet.middle.of(Leaf.DEATH, "d1")
    assert told
    link = await fleet.link("d1")

    await fleet.middle.deliver(*told, *told)

    assert await answers(link)
    assert fleet.centre.presence == [("up", "d1"), ("down", "d1"), ("up", "d1")]


async def test_a_will_that_is_never_told_leaves_a_device_there_until_it_comes_again(
    fleet: Fleet,
) -> None:
    fleet.middle.malice = lambda one: () if one.leaf is Leaf.DEATH else (one,)
    await (await fleet.link("d1")).close()
    await fleet.middle.until(lambda: fleet.middle.of(Leaf.DEATH) != [])
    assert fleet.centre.presence == [("up", "d1")]

    link = await fleet.link("d1")
    await fleet.middle.deliver(*fleet.middle.of(Leaf.DEATH))  # and now it is too late

    assert await answers(link)
    assert fleet.controllers[0].sessions.connected() == {"d1"}


async def test_a_device_whose_will_was_told_too_early_learns_it_when_it_asks_and_comes_again(
    fleet: Fleet,
) -> None:
    link = await fleet.link("d1")
    machine = await fleet.machine("d1")

    await fleet.middle.deliver(death("d1", 1, machine.signer))
    await fleet.centre.until(lambda: ("down", "d1") in fleet.centre.presence)

    with pytest.raises(TransportError, match="ended the link"):
        await answers(link)
    assert await answers(await fleet.link("d1"))
    assert fleet.centre.presence[-1] == ("up", "d1")


async def test_a_will_that_is_brought_as_something_else_is_nothing(fleet: Fleet) -> None:
    link = await fleet.link("d1")
    machine = await fleet.machine("d1")
    state = fleet.state()
    sealed = [
        seal(death("d1", session, machine.signer).payload, state.sealing_key, UP)
        for session in (1, 2)
    ]

    for payload in sealed:
        for topic in (topics.call("d1"), topics.inbox(state.controller, "d1"), topics.death("d1")):
            await fleet.middle.deliver(Parcel(Toward.CONTROLLERS, topic, payload))

    assert await answers(link)
    assert fleet.centre.presence == [("up", "d1")]


async def test_a_birth_that_a_newer_one_has_overtaken_does_not_take_its_place(
    fleet: Fleet,
) -> None:
    slow = asyncio.Event()
    fleet.centre.doors.append(slow)
    machine = await fleet.machine("d1")
    older = mqtt_pb2.DeviceMessage(birth=mqtt_pb2.Birth(), certificate=machine.der, session=1)
    machine.sessions = itertools.count(2)
    await fleet.middle.deliver(said(fleet, "d1", older, machine.signer))
    link = await fleet.link("d1")

    slow.set()

    assert await answers(link)
    await link.publish(FACTS, b"facts")
    assert fleet.centre.heard == [("d1", FACTS, b"facts")]


async def test_a_birth_that_was_kept_back_counts_when_it_comes_but_not_after_a_newer_one(
    fleet: Fleet,
) -> None:
    fleet.middle.malice = lambda one: () if one.toward is Toward.CONTROLLERS else (one,)
    for name in ("d1", "d2"):
        with pytest.raises(TransportError):
            await (await fleet.dialer(name, seconds=0.5)).dial()
    (first,), (second,) = fleet.said("birth", "d1"), fleet.said("birth", "d2")
    fleet.middle.malice = honest
    link = await fleet.link("d2")

    await fleet.middle.deliver(first, second)

    await fleet.centre.until(lambda: ("up", "d1") in fleet.centre.presence)  # and it is not there
    assert await answers(link)
    assert fleet.centre.presence == [("up", "d2"), ("up", "d1")]
