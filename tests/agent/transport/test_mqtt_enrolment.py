"""What a machine asks through a broker that it has no reason to trust."""

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import Message

from agent.clock import SystemClock
from agent.config import AgentConfig, Connecting
from agent.errors import Refused, TransportError, WrongController
from agent.home import Home
from agent.identity import keys
from agent.identity.actions import device_key, join, renew
from agent.routes import Paths, enrolment_dialer, routes
from agent.store.device_store import Identity
from agent.transport.mqtt.enrolment import MqttEnrolment
from controller.enrolment.authority import create_authority, issue_server
from controller.transport.mqtt.voice import ControllerSeal
from protos.mqtt import topics
from protos.mqtt.broker import Broker as Access
from protos.mqtt.broker import Habits
from protos.mqtt.connection import BrokerClient, Incoming, connected
from protos.mqtt.sealing import ENROLMENT, seal, sign, to_device, unseal
from protos.mqtt.topics import Leaf
from protos.v1 import common_pb2, enrolment_pb2, mqtt_pb2
from simulations.memory_device_store import MemoryDeviceStore
from tests.brokers import Broker, Certificates, mosquitto
from tests.contracts.centre import DEADLINE
from tests.contracts.enrolments import (
    Office,
    OverMqtt,
    at_the_broker,
    now,
    over_mqtt,
    recording,
    renewal,
    wish,
)

FACTS = common_pb2.DeviceFacts(arch="x86_64")


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
async def door(office: Office, tmp_path: Path) -> AsyncIterator[OverMqtt]:
    async with over_mqtt(office, tmp_path) as door:
        yield door


async def test_a_broker_that_records_everything_learns_nothing(
    door: OverMqtt, office: Office
) -> None:
    ticket, key_pem = office.ticket(), keys.generate_key()
    enrolment = door.enrolment(office.terms.server_ca_pem)
    async with recording(door.broker) as recorder:
        joined = await enrolment.join(wish(ticket, key_pem, "secret-name"))
        await enrolment.renew(renewal("secret-name", key_pem, 1))
        await recorder.until(Leaf.ASK, 2)
        await recorder.until(Leaf.ANSWER, 2)

    said = b"\n".join(one.topic.encode() + one.payload for one in recorder.seen)
    assert len(recorder.of(Leaf.ASK)) == 2
    for secret in (
        ticket.secret.encode(),
        ticket.id.encode(),
        b"secret-name",
        b"BEGIN CERTIFICATE",
        joined.certificate_pem[100:150],
        keys.public_key(key_pem)[30:90],
    ):
        assert secret not in said


async def test_every_question_is_asked_under_another_name_and_with_another_key(
    door: OverMqtt, office: Office
) -> None:
    request = wish(office.ticket(), keys.generate_key())
    enrolment = door.enrolment(office.terms.server_ca_pem)
    async with recording(door.broker) as recorder:
        await enrolment.join(request)
        await enrolment.join(request)
        await recorder.until(Leaf.ASK, 2)

    one, other = recorder.of(Leaf.ASK)
    assert one.topic != other.topic
    assert one.payload != other.payload
    assert len(topics.address(one.topic).whose) == 32  # type: ignore[union-attr]


async def test_an_answer_to_another_question_is_ignored(
    door: OverMqtt, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker brings the machine what a controller has said to another one, before its own."""
    caplog.set_level(logging.INFO)
    enrolment = door.enrolment(office.terms.server_ca_pem)
    async with recording(door.broker) as recorder:
        await enrolment.join(wish(office.ticket(), keys.generate_key(), "cam-1"))
        recorded = await recorder.until(Leaf.ANSWER)
        office.gate.clear()
        second = asyncio.create_task(
            enrolment.join(wish(office.ticket(), keys.generate_key(), "cam-2"))
        )
        asked = await recorder.until(Leaf.ASK, 2)
        client = topics.address(asked.topic)
        assert client is not None
        for payload in (recorded.payload, b"", b"\x01", asked.payload, b"\xff" * 500):
            await recorder.client.publish(topics.answer(client.whose), payload)
        office.gate.set()

        assert (await second).device_id == "cam-2"
    dropped = [one for one in caplog.messages if "message-dropped" in one and "/answer" in one]
    assert len(dropped) == 5


class Scripted:
    """A controller of the right CA that says what a test wants."""

    def __init__(self, office: Office) -> None:
        self.own = ControllerSeal(office.server(), X25519PrivateKey.generate())
        self.asked: asyncio.Queue[tuple[str, mqtt_pb2.Enquiry]] = asyncio.Queue()
        self.client: BrokerClient

    def receive(self, incoming: Incoming) -> None:
        address = topics.address(incoming.topic)
        if address is not None and address.leaf is Leaf.ASK:
            data = unseal(incoming.payload, self.own.sealing_key, ENROLMENT)
            self.asked.put_nowait((address.whose, mqtt_pb2.Enquiry.FromString(data)))

    async def say(self, client: str, enquiry: mqtt_pb2.Enquiry, message: Message) -> None:
        data = seal(sign(message, self.own.signer()), enquiry.answer_key, to_device(""))
        await self.client.publish(topics.answer(client), data)


@asynccontextmanager
async def scripted(office: Office, broker: Broker, *states: bytes) -> AsyncIterator[Scripted]:
    controller, certificates = Scripted(office), broker.certificates
    access = Access(
        broker.controllers,
        certificates.broker_authority.certificate_pem,
        certificates.controller.certificate_pem,
        certificates.controller.key_pem,
    )
    async with connected(access, "scripted", controller.receive, Habits()) as controller.client:
        await controller.client.subscribe([topics.ask("+")])
        for number, state in enumerate(states or (controller.own.state("c0"),)):
            await controller.client.publish(topics.state(f"c{number}"), state, retain=True)
        yield controller


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with mosquitto(tmp_path) as broker:
        yield broker


def stranger(broker: Broker, office: Office, timeout: float = DEADLINE) -> MqttEnrolment:
    ca_pem = office.terms.server_ca_pem
    access = Access(broker.strangers, broker.certificates.broker_authority.certificate_pem)
    return MqttEnrolment(access, ca_pem, now, timeout)


async def test_only_the_answer_that_repeats_the_nonce_of_a_controller_that_is_there_counts(
    broker: Broker, office: Office
) -> None:
    reply = enrolment_pb2.JoinReply(device_id="cam-1").SerializeToString()
    forged = enrolment_pb2.JoinReply(device_id="forged").SerializeToString()
    async with scripted(office, broker) as controller:
        asking = asyncio.create_task(stranger(broker, office).join(enrolment_pb2.JoinRequest()))
        client, enquiry = await controller.asked.get()
        answer = mqtt_pb2.EnquiryAnswer(controller="c0", nonce=enquiry.nonce, body=forged)
        for wrong in (
            mqtt_pb2.EnquiryAnswer(controller="c0", nonce=b"x" * 16, body=forged),
            mqtt_pb2.EnquiryAnswer(controller="c0", body=forged),
            mqtt_pb2.EnquiryAnswer(controller="c9", nonce=enquiry.nonce, body=forged),
            mqtt_pb2.EnquiryAnswer(nonce=enquiry.nonce, body=forged),
            mqtt_pb2.ControllerMessage(controller="c0", body=forged),
        ):
            await controller.say(client, enquiry, wrong)
        by_another = sign(answer, keys.signer(keys.generate_key()))
        to_a_device = sign(answer, controller.own.signer())
        for data in (
            seal(by_another, enquiry.answer_key, to_device("")),
            seal(to_a_device, enquiry.answer_key, to_device("cam-1")),
        ):
            await controller.client.publish(topics.answer(client), data)
        await controller.say(
            client,
            enquiry,
            mqtt_pb2.EnquiryAnswer(controller="c0", nonce=enquiry.nonce, body=reply),
        )

        assert (await asking).device_id == "cam-1"


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ({"refused": common_pb2.Problem(code="c", detail="d", remedy="r")}, Refused, "d"),
        ({"failed": "the controller failed: store"}, TransportError, "failed: store"),
        ({"body": b"\xff"}, TransportError, "can't be read"),
        ({}, TransportError, "can't be read"),
    ],
)
async def test_an_answer_that_is_no_reply_says_so(
    broker: Broker,
    office: Office,
    kind: dict[str, common_pb2.Problem],
    error: type[Exception],
    told: str,
) -> None:
    async with scripted(office, broker) as controller:
        asking = asyncio.create_task(stranger(broker, office).renew(enrolment_pb2.RenewRequest()))
        client, enquiry = await controller.asked.get()
        answer = mqtt_pb2.EnquiryAnswer(controller="c0", nonce=enquiry.nonce, **kind)  # type: ignore[arg-type]
        await controller.say(client, enquiry, answer)

        with pytest.raises(error, match=told):
            await asking


async def test_a_controller_that_does_not_answer_is_not_waited_for_for_ever(
    broker: Broker, office: Office
) -> None:
    async with scripted(office, broker):
        with pytest.raises(TransportError):
            await stranger(broker, office, timeout=1.0).join(enrolment_pb2.JoinRequest())


async def test_without_a_controller_at_the_broker_nothing_is_asked(
    broker: Broker, office: Office
) -> None:
    with pytest.raises(TransportError):
        await stranger(broker, office, timeout=1.0).join(enrolment_pb2.JoinRequest())


async def test_states_that_prove_nothing_are_not_believed_beside_one_that_does(
    broker: Broker, office: Office
) -> None:
    other = create_authority("another", now())
    impostor = ControllerSeal(
        issue_server(other, ["localhost"], now()), Scripted(office).own.sealing_key
    )
    bad = (impostor.state("c0"), b"", b"nonsense", Scripted(office).own.state("another-id"))
    async with scripted(office, broker, *bad) as controller:
        with pytest.raises(WrongController, match="no controller at the broker can be believed"):
            await stranger(broker, office).join(enrolment_pb2.JoinRequest())
        assert controller.asked.empty()

        state = controller.own.state("c7")
        await controller.client.publish(topics.state("c7"), state, retain=True)
        asking = asyncio.create_task(stranger(broker, office).join(enrolment_pb2.JoinRequest()))
        client, enquiry = await controller.asked.get()
        reply = enrolment_pb2.JoinReply(device_id="cam-1").SerializeToString()
        await controller.say(
            client,
            enquiry,
            mqtt_pb2.EnquiryAnswer(controller="c7", nonce=enquiry.nonce, body=reply),
        )
        assert (await asking).device_id == "cam-1"


async def test_a_broker_of_another_ca_is_not_spoken_to(door: OverMqtt, office: Office) -> None:
    ca_pem = create_authority("another", now()).certificate_pem
    enrolment = MqttEnrolment(
        Access(door.access.address, ca_pem), office.terms.server_ca_pem, now, DEADLINE
    )

    with pytest.raises(TransportError, match="certificate"):
        await enrolment.join(wish(office.ticket(), keys.generate_key()))


async def test_a_broker_that_goes_away_meanwhile_is_a_transport_error(
    broker: Broker, office: Office
) -> None:
    async with scripted(office, broker) as controller:
        asking = asyncio.create_task(stranger(broker, office).join(enrolment_pb2.JoinRequest()))
        await controller.asked.get()
        await broker.kill()

        with pytest.raises(TransportError, match="the broker"):
            await asking


async def test_a_device_that_reaches_only_the_broker_lives_there_for_good(
    office: Office, tmp_path: Path
) -> None:
    """It joins, connects, sleeps until its certificate has expired, renews it and connects again."""
    certificates = Certificates.new()
    office.device_authority = certificates.device_authority
    store, home, clock = MemoryDeviceStore(), Home(tmp_path), SystemClock()
    config = AgentConfig(connecting=Connecting(transports=("mqtt",)))
    dial = enrolment_dialer(home, config, clock)

    async def link(identity: Identity) -> None:
        paths = Paths(
            identity,
            config,
            device_key(home.key, identity),
            lambda: identity.certificate_pem,
            sessions.__next__,
            lambda _: None,
        )
        (route,) = routes(home, paths, clock, random.Random(1))  # noqa: S311
        await (await route.dialer.dial()).close()

    sessions = itertools.count(1)
    async with mosquitto(tmp_path, certificates) as broker, at_the_broker(office, broker):
        door = OverMqtt(broker)
        office.meet(door)
        fresh, way = await join(office.token(), "cam-1", FACTS, home.key, store, now(), dial)
        assert way.transport == "mqtt"
        await link(fresh)

        office.ahead = -timedelta(days=40)
        expired = await renew(home.key, store, now(), dial)
        with pytest.raises(TransportError):
            await link(expired)

        office.ahead = timedelta()
        await link(await renew(home.key, store, now(), dial))
