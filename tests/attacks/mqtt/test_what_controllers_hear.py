"""A broker makes things up and brings things again: controllers believe what devices have signed, once."""

from collections.abc import Iterable
from datetime import timedelta

import pytest

from agent.identity import keys
from controller.enrolment.authority import KeyPair
from protos.methods import FACTS, METADATA
from protos.mqtt import topics
from protos.mqtt.topics import Leaf
from protos.v1 import mqtt_pb2
from tests.attacks.mqtt.between import Parcel, Toward
from tests.attacks.mqtt.fleet import Fleet, answers, der
from tests.attacks.mqtt.forgery import LOW_ORDER, altered, birth, certificate, said
from tests.brokers import serial
from tests.contracts.centre import BLOB, BLOB_SHA256, refresh

Message = mqtt_pb2.DeviceMessage
ASKED = mqtt_pb2.Request(method=METADATA.name, body=b"x")
KINDS = (
    Message(birth=mqtt_pb2.Birth()),
    Message(request=mqtt_pb2.Request(method=METADATA.name, body=b"old")),
    Message(announcement=mqtt_pb2.Announcement(subject=FACTS, payload=b"old")),
    Message(chunk=mqtt_pb2.ChunkRequest(sha256=BLOB_SHA256, length=1)),
    Message(death=mqtt_pb2.Death()),
    Message(),
)


async def everything(fleet: Fleet, name: str) -> None:
    """The device dials, and says one thing of every kind."""
    link = await fleet.link(name)
    assert await link.call(METADATA.name, b"x") == f"{name}/x".encode()
    await link.publish(FACTS, b"facts")
    assert b"".join([piece async for piece in link.fetch(BLOB_SHA256, 0)]) == BLOB


def heard_once(fleet: Fleet, *names: str) -> None:
    """Nothing but that, of these devices, and each of it once."""
    assert fleet.centre.presence == [("up", name) for name in names]
    assert fleet.centre.asked == [(name, b"x") for name in names]
    assert fleet.centre.heard == [(name, FACTS, b"facts") for name in names]


async def test_what_comes_twice_is_taken_once(fleet: Fleet) -> None:
    fleet.middle.malice = lambda parcel: (parcel, parcel)

    await everything(fleet, "d1")

    heard_once(fleet, "d1")


async def test_what_was_altered_on_its_way_is_not_believed(fleet: Fleet) -> None:
    fleet.middle.malice = lambda parcel: (*altered(parcel), parcel)

    await everything(fleet, "d1")

    heard_once(fleet, "d1")


async def test_what_a_device_says_counts_only_under_its_own_topic(fleet: Fleet) -> None:
    def swapped(parcel: Parcel) -> Iterable[Parcel]:
        if parcel.toward is Toward.CONTROLLERS:
            yield parcel.but(topic=parcel.topic.replace("d1", "d2"))
        yield parcel

    fleet.middle.malice = swapped

    await everything(fleet, "d1")

    heard_once(fleet, "d1")


async def test_each_kind_counts_only_where_it_belongs(fleet: Fleet) -> None:
    def misplaced(parcel: Parcel) -> Iterable[Parcel]:
        if parcel.leaf is Leaf.IN:
            yield parcel.but(topic=topics.call(parcel.whose))
            yield parcel.but(topic=topics.death(parcel.whose))
            yield parcel.but(topic=topics.ask(parcel.whose))
        elif parcel.leaf is Leaf.CALL:
            yield parcel.but(topic=topics.inbox(fleet.state().controller, parcel.whose))
            yield parcel.but(topic=topics.ask(parcel.whose))
        yield parcel

    fleet.middle.malice = misplaced

    await everything(fleet, "d1")

    heard_once(fleet, "d1")


async def test_what_a_device_said_in_a_session_that_is_over_counts_no_more(fleet: Fleet) -> None:
    await everything(fleet, "d1")
    before = [one for one in fleet.middle.seen if one.toward is Toward.CONTROLLERS]
    held_back = [await unheard(fleet, "d1", session=1, number=50 + n) for n in range(len(KINDS))]
    link = await fleet.link("d1")
    asked, heard = list(fleet.centre.asked), list(fleet.centre.heard)

    await fleet.middle.deliver(*before, *held_back, *before)

    assert await answers(link)
    await link.publish(FACTS, b"now")  # its link is still the one that counts
    assert fleet.centre.asked == [*asked, ("d1", b"fence")]
    assert fleet.centre.heard == [*heard, ("d1", FACTS, b"now")]
    assert fleet.centre.presence == [("up", "d1"), ("up", "d1")]


async def test_a_device_that_has_gone_does_not_come_back_by_what_it_once_said(
    fleet: Fleet,
) -> None:
    await everything(fleet, "d1")
    before = [one for one in fleet.middle.seen if one.toward is Toward.CONTROLLERS]
    await (await fleet.link("d1")).close()
    await fleet.centre.until(lambda: fleet.centre.presence[-1] == ("down", "d1"))
    other = await fleet.link("d2")

    await fleet.middle.deliver(*before, *fleet.said("birth", "d1"))

    assert await answers(other)
    assert fleet.centre.presence[-2:] == [("down", "d1"), ("up", "d2")]


async def test_what_was_said_to_one_controller_is_not_news_to_the_next(fleet: Fleet) -> None:
    await everything(fleet, "d1")
    before = [one for one in fleet.middle.seen if one.toward is Toward.CONTROLLERS]
    first = fleet.state().controller
    await fleet.controllers[0].stop()
    await fleet.controller()
    other = await fleet.link("d2")
    second = fleet.state().controller

    await fleet.middle.deliver(*before)
    await fleet.middle.deliver(*(one.but(topic=one.topic.replace(first, second)) for one in before))

    assert await answers(other)
    assert fleet.centre.presence == [("up", "d1"), ("down", "d1"), ("up", "d2")]
    assert fleet.centre.asked == [("d1", b"x"), ("d2", b"fence")]
    assert fleet.centre.heard == [("d1", FACTS, b"facts")]


async def test_a_call_that_is_brought_to_another_controller_is_answered_to_the_device_alone(
    fleet: Fleet,
) -> None:
    # Every method may be asked twice; so this is all that bringing a call again can do.
    await fleet.controller()
    link = await fleet.link("d1")
    machine = await fleet.machine("d1")
    call = said(
        fleet,
        "d1",
        Message(certificate=machine.der, session=1, number=9, request=ASKED),
        machine.signer,
    )

    await fleet.middle.deliver(call, call, call)
    assert await answers(link)
    assert await answers(link)  # the controllers take turns

    assert [one for one in fleet.centre.asked if one[1] == b"x"] == 2 * [("d1", b"x")]


async def test_a_device_is_not_taken_back_to_a_certificate_that_it_has_renewed(
    fleet: Fleet,
) -> None:
    machine = await fleet.machine("d1")
    await fleet.link("d1")
    old = fleet.said("birth", "d1")
    machine.shown = fleet.certificates.device("d1", machine.shown.key_pem)
    link = await fleet.link("d1")

    await fleet.middle.deliver(*old)

    assert await answers(link)
    assert fleet.centre.admitted[-1] == ("d1", serial(machine.shown))


async def unheard(fleet: Fleet, name: str, session: int, number: int) -> Parcel:
    """What the device has said, and the broker has kept: one of each kind, by number."""
    message = Message(session=session, number=number)
    message.MergeFrom(KINDS[number % len(KINDS)])
    return said(fleet, name, message, (await fleet.machine(name)).signer)


@pytest.mark.parametrize(
    "forger",
    ["stranger", "device", "controller of a broker", "expired", "not yet", "server", "twin"],
)
async def test_nobody_comes_with_a_certificate_that_is_not_its_own(
    fleet: Fleet, forger: str
) -> None:
    link = await fleet.link("d1")
    ours, authorities = fleet.certificates, fleet.authorities
    d1 = await fleet.machine("d1")
    shown = {
        "stranger": certificate("d9"),  # of an authority with the same name
        "device": d1.shown,
        "controller of a broker": ours.controller,
        "expired": certificate("d9", ours.device_authority, since=timedelta(days=-4000)),
        "not yet": certificate("d9", ours.device_authority, since=timedelta(days=2)),
        "server": authorities.controller,
        "twin": KeyPair(ours.device("d9").certificate_pem, keys.generate_key()),
    }[forger]

    await fleet.middle.deliver(birth(fleet, "d9", shown))

    assert await answers(link)
    assert fleet.centre.presence == [("up", "d1")]


async def test_a_message_says_nothing_for_another_device(fleet: Fleet) -> None:
    link = await fleet.link("d1")
    d2 = fleet.certificates.device("d2")
    named = Message(device="d1", session=7, certificate=der(d2))

    for kind in KINDS:
        message = Message()
        message.CopyFrom(named)
        message.MergeFrom(kind)
        signer = keys.signer(d2.key_pem)
        await fleet.middle.deliver(
            said(fleet, "d1", message, signer), said(fleet, "d2", message, signer)
        )

    assert await answers(link)
    assert fleet.centre.presence == [("up", "d1")]
    assert fleet.centre.asked == [("d1", b"fence")]
    assert fleet.centre.heard == []


@pytest.mark.parametrize("key", LOW_ORDER, ids=range(len(LOW_ORDER)))
async def test_a_device_with_a_key_that_seals_nothing_gets_no_answer_and_does_no_harm(
    fleet: Fleet, key: bytes
) -> None:
    link = await fleet.link("d1")
    bad = fleet.certificates.device("d2")
    signer = keys.signer(bad.key_pem)
    known = Message(certificate=der(bad), answer_key=key, session=1)

    for number, kind in enumerate(KINDS, 1):
        message = Message(number=number)
        message.MergeFrom(known)
        message.MergeFrom(kind)
        unknown = Message(answer_key=key)
        unknown.MergeFrom(kind)
        await fleet.middle.deliver(
            said(fleet, "d3", unknown, signer), said(fleet, "d2", message, signer)
        )
    await fleet.centre.until(lambda: ("up", "d2") in fleet.centre.presence)
    await fleet.controllers[0].sessions.send("d2", refresh())

    assert await answers(link)
