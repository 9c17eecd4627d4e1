"""The ways to the controller that an agent takes, from its configuration and its identity."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent import routes as making
from agent.clock import SystemClock
from agent.config import AgentConfig, Connecting, Mqtt
from agent.errors import ConfigError
from agent.home import Home
from agent.identity import keys
from agent.store.device_store import Identity
from agent.transport.grpc.link import GrpcDialer
from agent.transport.link import Contact, Way
from agent.transport.mqtt.dialer import MqttDialer
from agent.transport.route import Route
from controller.enrolment.authority import create_authority

BROKER_CA = create_authority("broker CA", datetime.now(UTC)).certificate_pem


def routes(
    folder: Path, session_address: str, *transports: str, mqtt: Mqtt | None = None
) -> list[Route]:
    paths = making.Paths(
        identity=Identity("cam-1", b"", b"ca", session_address, "controller:8444", b""),
        config=AgentConfig(connecting=Connecting(transports=transports), mqtt=mqtt or Mqtt()),
        key_pem=keys.generate_key(),
        certificate_pem=lambda: b"",
        next_session=lambda: 1,
        on_desired=lambda _: None,
    )
    return making.routes(Home(folder), paths, SystemClock(), random.Random(1))  # noqa: S311


def test_the_routes_stand_in_the_order_of_the_configuration(tmp_path: Path) -> None:
    mqtt = Mqtt(address="broker:8883")

    found = routes(tmp_path, "controller:8443", "mqtt", "grpc", mqtt=mqtt)

    assert [route.name for route in found] == ["mqtt", "grpc"]
    assert isinstance(found[0].dialer, MqttDialer)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "No such file"), (b"-----", "it holds no certificates in PEM")],
)
def test_a_ca_that_can_not_be_used_is_named(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "broker.pem").write_bytes(content)

    with pytest.raises(ConfigError, match=complaint) as caught:
        routes(tmp_path, "", "mqtt", mqtt=Mqtt(address="broker:8883", ca="broker.pem"))

    assert "[mqtt] ca: broker.pem" in caught.value.detail


@pytest.mark.parametrize(
    ("mqtt", "address", "ca_pem"),
    [
        (Mqtt(), "told:8883", b"told ca"),
        (Mqtt(address="broker:8883"), "broker:8883", b"told ca"),
        (Mqtt(ca="broker.pem"), "told:8883", BROKER_CA),
        (Mqtt(address="broker:8883", ca="broker.pem"), "broker:8883", BROKER_CA),
    ],
)
def test_the_configuration_wins_over_what_the_controller_said_of_the_broker(
    tmp_path: Path, mqtt: Mqtt, address: str, ca_pem: bytes
) -> None:
    (tmp_path / "broker.pem").write_bytes(BROKER_CA)
    told = Identity("cam-1", b"", b"ca", "", "", b"", "told:8883", "told:8885", b"told ca")

    found = making.broker_of(Home(tmp_path), AgentConfig(mqtt=mqtt), told)

    assert found is not None
    assert (found.address, found.ca_pem) == (address, ca_pem)


def test_a_transport_without_an_address_is_left_out(tmp_path: Path) -> None:
    found = routes(tmp_path, "controller:8443", "mqtt", "grpc")

    assert [route.name for route in found] == ["grpc"]
    assert isinstance(found[0].dialer, GrpcDialer)


NO_BROKER = "the controller has named no broker, and [mqtt] address names none"


@pytest.mark.parametrize(
    ("address", "transports", "missing"),
    [
        ("controller:8443", ("mqtt",), f"mqtt; {NO_BROKER}"),
        ("", ("grpc",), "grpc"),
        ("", ("grpc", "mqtt"), f"grpc or mqtt; {NO_BROKER}"),
    ],
)
def test_a_device_without_any_address_is_told_in_words(
    tmp_path: Path, address: str, transports: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        routes(tmp_path, address, *transports)

    assert caught.value.detail == (
        f"{tmp_path / 'agent.toml'}: [connecting] transports: "
        f"this device knows no address for {missing}"
    )


CONTACT = Contact("controller:8445", BROKER_CA, "told:8885", b"told ca")


def ways(folder: Path, contact: Contact, *transports: str, mqtt: Mqtt | None = None) -> list[Way]:
    config = AgentConfig(connecting=Connecting(transports=transports), mqtt=mqtt or Mqtt())
    return list(making.enrolment_dialer(Home(folder), config, SystemClock())(contact))


def test_a_certificate_is_asked_for_over_the_transports_in_their_order(tmp_path: Path) -> None:
    found = [(one.transport, one.address) for one in ways(tmp_path, CONTACT, "mqtt", "grpc")]

    assert found == [("mqtt", "told:8885"), ("grpc", "controller:8445")]


def test_a_way_without_an_address_is_no_way(tmp_path: Path) -> None:
    of_old = Contact("controller:8445", BROKER_CA)
    assert [one.transport for one in ways(tmp_path, of_old, "grpc", "mqtt")] == ["grpc"]

    with pytest.raises(ConfigError, match=r"over mqtt: .*agent\.toml: \[mqtt\] enrolment_address"):
        ways(tmp_path, of_old, "mqtt")


@pytest.mark.parametrize(
    ("mqtt", "address", "ca_pem"),
    [
        (Mqtt(), "told:8885", b"told ca"),
        (Mqtt(enrolment_address="broker:8885"), "broker:8885", b"told ca"),
        (Mqtt(ca="broker.pem"), "told:8885", BROKER_CA),
    ],
)
def test_the_configuration_wins_over_what_a_token_says_of_the_broker(
    tmp_path: Path, mqtt: Mqtt, address: str, ca_pem: bytes
) -> None:
    (tmp_path / "broker.pem").write_bytes("# Von Jürgen\n".encode("latin-1") + BROKER_CA)

    found = making.strangers_of(Home(tmp_path), AgentConfig(mqtt=mqtt), CONTACT)

    assert found is not None
    assert (found.address, found.ca_pem) == (address, ca_pem)
