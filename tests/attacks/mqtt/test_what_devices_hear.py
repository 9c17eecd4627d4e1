"""A broker makes things up and brings things again: devices believe what their controllers have signed."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.errors import TransportError
from agent.identity import keys
from agent.transport.mqtt.link import MqttLink
from controller.enrolment.authority import KeyPair, create_authority, issue_server
from controller.transport.mqtt.voice import ControllerSeal
from protos.keys import Signer
from protos.methods import FACTS, METADATA
from protos.mqtt import topics
from protos.mqtt.sealing import seal, sign, to_device
from protos.mqtt.topics import Leaf
from protos.v1 import command_pb2, mqtt_pb2
from tests.attacks.mqtt.between import Parcel, Toward
from tests.attacks.mqtt.fleet import Fleet, answers
from tests.attacks.mqtt.forgery import LOW_ORDER, altered, certificate
from tests.contracts.centre import BLOB, BLOB_SHA256, DEADLINE, refresh

Message = mqtt_pb2.ControllerMessage
REFRESH = command_pb2.Command(refresh_trust=command_pb2.RefreshTrust())


def state(id_: str, shown: KeyPair) -> Parcel:
    """A controller that is there, says whoever holds that certificate."""
    payload = ControllerSeal(shown, X25519PrivateKey.generate()).state(id_)
    return Parcel(Toward.DEVICES, topics.state(id_), payload)


async def test_who_holds_no_certificate_of_a_controller_is_none(fleet: Fleet) -> None:
    now = datetime.now(UTC)
    server, hosts = fleet.authorities.server, ["localhost"]
    ours = fleet.certificates
    shown = {
        "stranger": issue_server(create_authority("server CA", now), hosts, now),
        "device": ours.device("d2"),
        "broker": issue_server(ours.broker_authority, hosts, now),
        "client-of-the-broker": ours.controller,
        "expired": issue_server(server, hosts, now - timedelta(days=9000)),
        "not-yet": issue_server(server, hosts, now + timedelta(days=2)),
        "device-of-the-server-ca": certificate("d3", server),
        "no-key": KeyPair(fleet.authorities.controller.certificate_pem, keys.generate_key()),
    }
    await fleet.middle.deliver(*(state(id_, one) for id_, one in shown.items()))

    link = await fleet.link("d1")
    await fleet.middle.deliver(*(state(id_, one) for id_, one in shown.items()))

    assert await answers(link)
    assert [id_ for id_ in shown if link._controllers.get(id_)] == []


async def test_a_controller_is_there_only_under_its_own_name(fleet: Fleet) -> None:
    true = fleet.middle.of(Leaf.STATE)[-1]
    await fleet.middle.deliver(true.but(topic=topics.state("another")))

    link = await fleet.link("d1")

    assert link._controllers.get("another") is None
    assert {one.topic for one in fleet.middle.of(Leaf.IN)} == {
        topics.inbox(fleet.state().controller, "d1")
    }


async def test_a_controller_that_is_claimed_to_be_there_costs_a_dial_and_no_more(
    fleet: Fleet,
) -> None:
    ghost = fleet.middle.of(Leaf.STATE)[-1]
    await fleet.controllers[0].stop()
    await fleet.controller()
    await fleet.middle.deliver(ghost)
    dialer = await fleet.dialer("d1", seconds=1.0)

    try:
        link = await dialer.dial()
    except TransportError:
        link = await dialer.dial()

    fleet.rest.push_async_callback(link.close)
    assert link.controller == fleet.state().controller
    assert await answers(link)


async def test_a_controller_that_is_said_to_have_gone_is_dialled_again_when_it_is_back(
    fleet: Fleet,
) -> None:
    link = await fleet.link("d1")
    true = fleet.middle.of(Leaf.STATE)[-1]

    await fleet.middle.deliver(true.but(payload=b""))
    with pytest.raises(TransportError, match="has gone"):
        await ended(link)
    await fleet.middle.deliver(true)

    assert await answers(await fleet.link("d1"))


async def test_each_device_gets_its_own_answers(fleet: Fleet) -> None:
    def exchanged(parcel: Parcel) -> Iterable[Parcel]:
        if parcel.leaf is Leaf.DOWN:
            other = "d2" if parcel.whose == "d1" else "d1"
            yield parcel.but(topic=topics.down(other))
        yield parcel

    links = [await fleet.link("d1"), await fleet.link("d2")]
    fleet.middle.malice = exchanged

    told = await asyncio.gather(*(link.call(METADATA.name, b"x") for link in links * 5))

    assert told == [b"d1/x", b"d2/x"] * 5


async def test_an_answer_counts_for_its_question_whatever_the_broker_writes_on_it(
    fleet: Fleet,
) -> None:
    link = await fleet.link("d1")

    def mixed_up(parcel: Parcel) -> Iterable[Parcel]:
        for older in fleet.middle.of(Leaf.DOWN):
            yield replace(older, correlation=parcel.correlation)
        yield replace(parcel, correlation=b"", answer_to=topics.down("d2"))

    fleet.middle.malice = mixed_up

    asked = [link.call(METADATA.name, str(number).encode()) for number in range(10)]
    assert await asyncio.gather(*asked) == [f"d1/{number}".encode() for number in range(10)]
    assert b"".join([piece async for piece in link.fetch(BLOB_SHA256, 0)]) == BLOB


async def test_answers_and_farewells_of_an_older_session_mean_nothing_in_the_next(
    fleet: Fleet,
) -> None:
    link = await fleet.link("d1")
    assert await answers(link)
    await fleet.controllers[0].sessions.send("d1", refresh())
    await command(link)
    await fleet.controllers[0].sessions.disconnect("d1")  # says farewell
    with pytest.raises(TransportError, match="ended the link"):
        await ended(link)
    before = fleet.middle.of(Leaf.DOWN)
    link = await fleet.link("d1")

    await fleet.middle.deliver(*before, *before)

    assert await answers(link)
    assert link._inbox._waiting == ()


async def test_a_command_is_carried_out_once_however_often_it_comes(fleet: Fleet) -> None:
    link = await fleet.link("d1")
    fleet.middle.malice = lambda parcel: (parcel, *altered(parcel), parcel)

    await fleet.controllers[0].sessions.send("d1", refresh())

    assert await command(link) == refresh()
    await fleet.middle.deliver(*fleet.middle.of(Leaf.DOWN))
    assert await answers(link)
    assert link._inbox._waiting == ()


async def test_nobody_else_commands_a_device_even_with_its_key_to_seal_with(fleet: Fleet) -> None:
    link = await fleet.link("d1")
    machine = await fleet.machine("d1")
    controller = keys.signer(fleet.authorities.controller.key_pem)
    id_, broker = fleet.state().controller, fleet.certificates.controller
    to_it = Message(controller=id_, device="d1", session=1, number=7)
    wrong: list[tuple[Message, Signer]] = [
        (to_it, keys.signer(keys.generate_key())),
        (to_it, keys.signer(broker.key_pem)),
        (to_it, machine.signer),
        *((but(to_it, **fields), controller) for fields in NOT_FOR_IT),
    ]

    for message, signer in wrong:
        for kind in (Message(command=REFRESH), Message(farewell=mqtt_pb2.Farewell())):
            message.MergeFrom(kind)
            sealed = seal(sign(message, signer), link._letters._public, to_device("d1"))
            await fleet.middle.deliver(Parcel(Toward.DEVICES, topics.down("d1"), sealed))

    assert await answers(link)
    assert link._inbox._waiting == ()


NOT_FOR_IT: tuple[dict[str, object], ...] = (
    {"device": "d2"},
    {"session": 2},
    {"session": 0},
    {"controller": "another"},
    {"number": 0},
)


def but(message: Message, **fields: object) -> Message:
    """A copy with these fields."""
    copy = Message()
    copy.CopyFrom(message)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


async def test_what_stands_at_the_broker_can_be_a_directive_and_nothing_else(fleet: Fleet) -> None:
    link = await fleet.link("d1")
    for payload in (refresh(), REFRESH.refresh_trust.SerializeToString(), b"\xff", b"\x12\x00"):
        await fleet.middle.deliver(Parcel(Toward.DEVICES, topics.desired("d1"), payload))

    assert await answers(link)
    kinds = [command_pb2.Command.FromString(one).WhichOneof("kind") for one in link._inbox._waiting]
    assert set(kinds) <= {"directive"}


async def test_what_seals_nothing_opens_nothing(fleet: Fleet) -> None:
    link = await fleet.link("d1")
    for key in LOW_ORDER:
        for tail in (b"", bytes(16), bytes(200)):
            payload = b"\x01" + key + tail
            await fleet.middle.deliver(
                Parcel(Toward.DEVICES, topics.down("d1"), payload),
                Parcel(Toward.CONTROLLERS, topics.call("d1"), payload),
                Parcel(Toward.CONTROLLERS, topics.inbox(link.controller, "d1"), payload),
            )

    assert await answers(link)
    await link.publish(FACTS, b"facts")


async def command(link: MqttLink) -> bytes:
    async with asyncio.timeout(DEADLINE):
        return await anext(link.commands())


async def ended(link: MqttLink) -> None:
    async with asyncio.timeout(DEADLINE):
        async for _ in link.commands():
            pass
