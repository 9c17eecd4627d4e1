"""Whatever bytes a broker brings, on whatever topic: nothing raises, nothing is believed, all lives on."""

import random
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.identity import keys
from agent.transport.mqtt.controllers import Controllers
from agent.transport.mqtt.letters import Letters
from agent.transport.mqtt.link import MqttLink
from agent.transport.mqtt.questions import Waits
from controller.enrolment.authority import KeyPair
from controller.transport.mqtt.senders import Senders
from controller.transport.mqtt.voice import ControllerSeal
from protos.errors import DocumentError
from protos.limits import MIB
from protos.mqtt import topics
from protos.mqtt.connection import Incoming
from protos.mqtt.sealing import UP, claim, seal, sign, to_device, unseal
from protos.v1 import mqtt_pb2
from tests.attacks.mqtt.between import Parcel, Toward
from tests.attacks.mqtt.fleet import Fleet, answers, der
from tests.brokers import Certificates
from tests.contracts.networks import Authorities

pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number"),
    pytest.mark.filterwarnings("ignore:The parsed certificate contains"),
]

AUTHORITIES, CERTIFICATES = Authorities.new(), Certificates.new()
SEALING_KEY = X25519PrivateKey.generate()
OWN = ControllerSeal(AUTHORITIES.controller, SEALING_KEY)
SHOWN = CERTIFICATES.device("d1")
NOW = SystemClock().now

TO_DEVICES = (topics.state("c1"), topics.desired("d1"), topics.down("d1"))
TO_CONTROLLERS = (
    topics.call("d1"),
    topics.death("d1"),
    topics.inbox("c1", "d1"),
    topics.ask("d1"),
    topics.state("c1"),
    topics.desired("d1"),
    topics.down("d1"),
    topics.answer("d1"),
)
TOPICS = st.sampled_from([*TO_DEVICES, *TO_CONTROLLERS]) | st.text(max_size=80)


def cuts_and_flips(data: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """So many things that it could have become on its way."""
    for _ in range(count):
        copy = bytearray(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)
        for _ in range(rng.randrange(1, 4)):
            if copy:
                copy[rng.randrange(len(copy))] = rng.choice(
                    (0, 1, 127, 128, 255, rng.randrange(256))
                )
        yield bytes(copy)


def letters() -> Letters:
    return Letters("d1", 1, keys.signer(SHOWN.key_pem), SHOWN.certificate_pem)


def link(writes: Letters) -> tuple[MqttLink, list[bytes]]:
    """A link that knows one controller, and what it was told to run."""
    desired: list[bytes] = []
    controllers = Controllers(AUTHORITIES.server.certificate_pem, NOW)
    controllers.take("c1", OWN.state("c1"))
    return MqttLink(writes, controllers, desired.append, Waits()), desired


@given(topic=TOPICS, data=st.binary(max_size=300), bare=st.booleans())
def test_no_bytes_make_a_device_stumble(topic: str, data: bytes, bare: bool) -> None:
    writes = letters()
    made, _ = link(writes)
    payload = data if bare else seal(data, writes._public, to_device("d1"))

    made.receive(Incoming(topic, payload))

    assert made._controllers.get("c1") or not payload  # it may be told that a controller went
    assert [one for one in made._inbox._waiting if b"refresh" in one] == []


def test_no_size_makes_a_device_stumble() -> None:
    made, desired = link(letters())

    for topic in TO_DEVICES[1:]:
        for size in (0, 1, 32, 49, 64 * 1024, 10 * MIB):
            made.receive(Incoming(topic, b"\x01" * size))

    assert made._inbox.failure is None
    assert all(len(one) < 100 for one in desired)  # an empty one can be read, and says nothing


def test_nothing_that_an_answer_could_have_become_is_an_answer() -> None:
    writes = letters()
    made, _ = link(writes)
    rng = random.Random(7)  # noqa: S311 - a course of events, not secrets
    said = mqtt_pb2.ControllerMessage(
        controller="c1", device="d1", session=1, number=5, farewell=mqtt_pb2.Farewell()
    )
    plain = sign(said, OWN.signer())

    for copy in cuts_and_flips(plain, rng, 2000):
        if copy != plain:
            made.receive(Incoming(topics.down("d1"), seal(copy, writes._public, to_device("d1"))))

    assert made._inbox.failure is None


def test_nothing_that_a_state_could_have_become_is_a_state() -> None:
    rng = random.Random(8)  # noqa: S311 - a course of events, not secrets
    controllers = Controllers(AUTHORITIES.server.certificate_pem, NOW)
    state = OWN.state("c1")

    for copy in cuts_and_flips(state, rng, 3000):
        if copy and copy != state:
            with pytest.raises(DocumentError):
                controllers.take("c1", copy)

    assert controllers.pick(rng) is None


def versions(der: bytes) -> Iterator[bytes]:
    """The certificate with each of its bytes altered."""
    for place in range(len(der)):
        for value in (0, 5, 0x30, 0xFF, der[place] ^ 0x80):
            if der[place] != value:
                yield der[:place] + bytes([value]) + der[place + 1 :]


@pytest.mark.parametrize("side", Toward)
def test_no_altered_certificate_makes_anybody_stumble(side: Toward) -> None:
    shown = SHOWN if side is Toward.CONTROLLERS else AUTHORITIES.controller
    signed = x509.load_der_x509_certificate(der(shown)).tbs_certificate_bytes
    for copy in versions(der(shown)):
        try:
            _believe(side, shown, copy)
        except DocumentError:
            continue
        # Only around what was signed: as in the count of unused bits of the signature, which is 0.
        assert x509.load_der_x509_certificate(copy).tbs_certificate_bytes == signed


def _believe(side: Toward, shown: KeyPair, certificate: bytes) -> None:
    signer = keys.signer(shown.key_pem)
    if side is Toward.DEVICES:
        state = mqtt_pb2.ControllerState(controller="c1", certificate=certificate)
        Controllers(AUTHORITIES.server.certificate_pem, NOW).take("c1", sign(state, signer))
        return
    birth = mqtt_pb2.DeviceMessage(device="d1", session=1, number=1, certificate=certificate)
    senders = Senders(CERTIFICATES.device_authority.certificate_pem, NOW)
    senders.take(claim(sign(birth, signer), mqtt_pb2.DeviceMessage), "d1")


async def test_no_bytes_and_no_size_make_a_controller_stumble(fleet: Fleet) -> None:
    made = await fleet.link("d1")
    desk = fleet.controllers[0].bridge._desk
    assert desk is not None
    rng = random.Random(9)  # noqa: S311 - a course of events, not secrets
    public = fleet.sealing_key.public_key().public_bytes_raw()
    birth = fleet.said("birth")[0]
    plain = unseal(birth.payload, fleet.sealing_key, UP)

    for topic in TO_CONTROLLERS:
        address = topics.address(topic)
        assert address is not None
        for size in (0, 1, 32, 49, 64 * 1024, 10 * MIB):
            desk.receive(Incoming(topic, b"\x01" * size), address)
        for copy in cuts_and_flips(plain, rng, 300):
            desk.receive(Incoming(topic, copy), address)
            desk.receive(Incoming(topic, seal(copy, public, UP)), address)

    assert await answers(made)
    assert fleet.centre.presence == [("up", "d1")]
    assert fleet.centre.asked == [("d1", b"fence")]


async def test_bytes_at_random_pass_through_a_broker_and_change_nothing(fleet: Fleet) -> None:
    made = await fleet.link("d1")
    rng = random.Random(10)  # noqa: S311 - a course of events, not secrets

    for number in range(200):
        toward = Toward.CONTROLLERS if number % 2 else Toward.DEVICES
        topic = rng.choice(TO_CONTROLLERS[:4] if number % 2 else TO_DEVICES)
        noise = rng.randbytes(rng.randrange(1, 2000))
        await fleet.middle.deliver(Parcel(toward, topic, noise))

    assert await answers(made)
    assert fleet.centre.presence == [("up", "d1")]
    assert made._inbox.failure is None
