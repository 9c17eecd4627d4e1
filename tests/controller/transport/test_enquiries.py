"""What strangers at a broker can ask of a controller, and how much of it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.clock import SystemClock
from agent.identity import keys
from controller.transport.grpc.enrolment_server import REQUEST_BYTES
from controller.transport.mqtt import enquiries
from controller.transport.mqtt.enquiries import ENQUIRY_BYTES, MOST_AT_ONCE
from protos.mqtt import topics
from protos.mqtt.broker import Habits
from protos.mqtt.connection import BrokerClient, Incoming, connected
from protos.mqtt.sealing import ENROLMENT, UP, claim, seal, to_device, unseal
from protos.mqtt.topics import Leaf
from protos.v1 import enrolment_pb2, mqtt_pb2
from tests.brokers import mosquitto
from tests.contracts.centre import DEADLINE
from tests.contracts.enrolments import (
    Office,
    OverMqtt,
    at_the_broker,
    over_mqtt,
    recording,
    renewal,
    wish,
)

CLIENT = "0123456789abcdef0123456789abcdef"


class Stranger:
    """Says at the broker whatever it wants to, and opens what comes back."""

    def __init__(self) -> None:
        self.client: BrokerClient
        self.key = X25519PrivateKey.generate()
        self.sealing_key: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.answers: asyncio.Queue[mqtt_pb2.EnquiryAnswer] = asyncio.Queue()

    def receive(self, incoming: Incoming) -> None:
        address = topics.address(incoming.topic)
        if address is not None and address.leaf is Leaf.STATE and not self.sealing_key.done():
            state = claim(incoming.payload, mqtt_pb2.ControllerState).message
            self.sealing_key.set_result(state.sealing_key)
        if address is not None and address.leaf is Leaf.ANSWER:
            plain = unseal(incoming.payload, self.key, to_device(""))
            self.answers.put_nowait(claim(plain, mqtt_pb2.EnquiryAnswer).message)

    def enquiry(self, **kind: bytes) -> mqtt_pb2.Enquiry:
        key = self.key.public_key().public_bytes_raw()
        return mqtt_pb2.Enquiry(answer_key=key, nonce=os.urandom(16), **kind)

    async def say(self, payload: bytes) -> None:
        await self.client.publish(topics.ask(CLIENT), payload)

    async def ask(self, enquiry: mqtt_pb2.Enquiry, purpose: bytes = ENROLMENT) -> None:
        await self.say(seal(enquiry.SerializeToString(), await self.sealing_key, purpose))

    async def answer(self) -> mqtt_pb2.EnquiryAnswer:
        return await asyncio.wait_for(self.answers.get(), DEADLINE)


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
async def door(office: Office, tmp_path: Path) -> AsyncIterator[OverMqtt]:
    async with over_mqtt(office, tmp_path) as door:
        yield door


@asynccontextmanager
async def knocking(door: OverMqtt) -> AsyncIterator[Stranger]:
    stranger = Stranger()
    async with connected(door.access, CLIENT, stranger.receive, Habits()) as stranger.client:
        await stranger.client.subscribe([topics.STATES, topics.answer(CLIENT)])
        yield stranger


@pytest.fixture
async def stranger(door: OverMqtt) -> AsyncIterator[Stranger]:
    async with knocking(door) as stranger:
        yield stranger


def joining(office: Office, name: str = "cam-1") -> bytes:
    return wish(office.ticket(), keys.generate_key(), name).SerializeToString()


async def test_what_is_no_enquiry_is_dropped_and_the_next_one_answered(
    stranger: Stranger, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole = stranger.enquiry(join=joining(office, "lost"))
    for part in ("answer_key", "nonce"):
        lacking = mqtt_pb2.Enquiry.FromString(whole.SerializeToString())
        lacking.ClearField(part)
        await stranger.ask(lacking)
    await stranger.ask(whole, UP)
    for nonsense in (b"", b"\x01", b"\x01" + b"\xff" * 300, os.urandom(300)):
        await stranger.say(nonsense)
    await stranger.say(seal(b"\xff\xff", await stranger.sealing_key, ENROLMENT))

    good = stranger.enquiry(join=joining(office))
    await stranger.ask(good)

    assert (await stranger.answer()).nonce == good.nonce
    assert len([one for one in caplog.messages if "enrolment.dropped" in one]) == 8
    assert office.devices() == ["cam-1"]
    assert [one for one in caplog.records if one.levelno > logging.WARNING] == []


async def test_an_enquiry_that_is_too_large_is_not_opened(
    stranger: Stranger, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    large = enrolment_pb2.JoinRequest(csr_pem=b"x" * (REQUEST_BYTES - 100)).SerializeToString()
    await stranger.ask(stranger.enquiry(join=large))
    assert (await stranger.answer()).refused.code == "token-unknown"

    await stranger.say(b"\x01" + b"x" * ENQUIRY_BYTES)
    await stranger.ask(stranger.enquiry(join=joining(office)))

    await stranger.answer()
    assert f"enrolment.dropped client={CLIENT} code=too-large" in caplog.text
    assert office.entered == 2


async def test_so_many_are_answered_at_once_and_no_more(
    stranger: Stranger, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.gate.clear()
    guess = enrolment_pb2.JoinRequest(token_id="x", token_secret="y").SerializeToString()
    for _ in range(MOST_AT_ONCE + 3):
        await stranger.ask(stranger.enquiry(join=guess))
    async with asyncio.timeout(DEADLINE), office.changed:
        await office.changed.wait_for(lambda: office.entered == MOST_AT_ONCE)
    office.gate.set()
    for _ in range(MOST_AT_ONCE):
        assert (await stranger.answer()).refused.code == "token-unknown"

    await stranger.ask(stranger.enquiry(join=joining(office)))

    assert (await stranger.answer()).body
    assert office.entered == MOST_AT_ONCE + 1
    assert caplog.text.count("code=too-many") == 3


class Still(SystemClock):
    """Its stop-watch stands until a test moves it."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


class Awaited(logging.Handler):
    """Says when a line stands in the log."""

    def __init__(self, words: str) -> None:
        super().__init__(logging.DEBUG)
        self._words = words
        self.came = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage():
            self.came.set()


async def test_who_fails_and_fails_is_not_listened_to_for_a_while(
    office: Office, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, dropped = Still(), Awaited("code=too-many-failures")
    caplog.set_level(logging.DEBUG, enquiries.log.name)
    guess = enrolment_pb2.JoinRequest(token_id="x", token_secret="y").SerializeToString()
    async with (
        mosquitto(tmp_path) as broker,
        at_the_broker(office, broker, clock=clock),
        knocking(OverMqtt(broker)) as stranger,
    ):
        for _ in range(int(enquiries.FAILURES.burst)):
            await stranger.ask(stranger.enquiry(join=guess))
            assert (await stranger.answer()).refused.code == "token-unknown"
        loud = [one for one in caplog.records if one.levelno >= logging.WARNING]

        enquiries.log.addHandler(dropped)
        await stranger.ask(stranger.enquiry(join=joining(office, "ignored")))
        await asyncio.wait_for(dropped.came.wait(), DEADLINE)
        enquiries.log.removeHandler(dropped)
        clock.at += 1.0
        await stranger.ask(stranger.enquiry(join=joining(office, "heard")))

        assert (await stranger.answer()).body
    assert office.devices() == ["heard"]
    assert len(loud) == enquiries.LINES.burst


async def test_an_enquiry_that_the_broker_brings_again_is_not_done_again(
    stranger: Stranger, door: OverMqtt, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with recording(door.broker) as recorder:
        await stranger.ask(stranger.enquiry(join=joining(office)))
        await stranger.answer()
        asked = await recorder.until(Leaf.ASK)
        for _ in range(3):
            await recorder.client.publish(asked.topic, asked.payload)
        await stranger.ask(stranger.enquiry(join=b""))

        assert (await stranger.answer()).refused.code == "token-unknown"
    assert office.entered == 2
    assert caplog.text.count("code=replayed") == 3


@pytest.mark.parametrize(
    ("kind", "code", "logged"),
    [
        ({"join": b"\xff"}, "invalid-input", "enrolment.refused"),
        ({"renew": b"\xff"}, "invalid-input", "renewal.refused"),
        ({"join": b""}, "token-unknown", "enrolment.refused"),
        ({"renew": b""}, "invalid-input", "renewal.refused"),
        ({}, "invalid-input", "enrolment.refused"),
    ],
)
async def test_what_is_refused_is_told_and_logged(
    stranger: Stranger,
    kind: dict[str, bytes],
    code: str,
    logged: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await stranger.ask(stranger.enquiry(**kind))

    answer = await stranger.answer()
    assert (answer.refused.code, bool(answer.refused.remedy)) == (code, True)
    assert f"{logged} client={CLIENT} code={code}" in caplog.text


async def test_a_key_that_nothing_can_be_sealed_to_gets_no_answer_and_breaks_nothing(
    stranger: Stranger, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    weak = stranger.enquiry(join=b"")
    weak.answer_key = bytes(32)
    await stranger.ask(weak)
    await stranger.ask(stranger.enquiry(join=joining(office)))

    assert (await stranger.answer()).body
    assert "bridge.unsayable" in caplog.text
    assert [one for one in caplog.records if one.levelno > logging.WARNING] == []


async def test_two_controllers_share_the_enquiries_and_any_answer_counts(
    office: Office, tmp_path: Path
) -> None:
    """Each has a key of its own to sign with; what strangers seal, both can open."""
    sealing_key = X25519PrivateKey.generate()
    async with (
        mosquitto(tmp_path) as broker,
        at_the_broker(office, broker, sealing_key),
        at_the_broker(office, broker, sealing_key),
    ):
        enrolment = OverMqtt(broker).enrolment(office.terms.server_ca_pem)
        key_pem = keys.generate_key()
        await enrolment.join(wish(office.ticket(), key_pem))
        for counter in range(1, 6):
            await enrolment.renew(renewal("cam-1", key_pem, counter))

    assert office.entered == 6
