"""The ways to the controller that this device has, as its configuration orders them.

A device loads the libraries of the ways that it goes, and of no others: each is some MiB.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.clock import Clock
from agent.config import FILE_NAME, AgentConfig
from agent.errors import ConfigError
from agent.home import Home
from agent.store.device_store import Identity
from agent.transport.connection import Connection
from agent.transport.link import Contact, Dialer, Enrolment, EnrolmentDialer, Way
from agent.transport.link_enrolment import LinkEnrolment
from agent.transport.route import Route
from protos.mqtt.broker import Broker


@dataclass(frozen=True, slots=True)
class Paths:
    """What a route needs to know of the device.

    Attributes:
        certificate_pem: asked at every dial: it is renewed now and then.
        next_session: a number that was never used before. May block.
        on_desired: told the directive that stands at a broker where no controller answers.
    """

    identity: Identity
    config: AgentConfig
    key_pem: bytes
    certificate_pem: Callable[[], bytes]
    next_session: Callable[[], int]
    on_desired: Callable[[bytes], None]


def routes(home: Home, paths: Paths, clock: Clock, rng: random.Random) -> list[Route]:
    """The ways to the controller that are configured, the preferred one first.

    A transport for which the device knows no address is left out.

    Raises:
        ConfigError: it knows none at all, or a file that is named can't be used.
    """
    dialers: dict[str, Dialer] = {}
    wanted = paths.config.connecting.transports
    identity = paths.identity
    if identity.session_address and "grpc" in wanted:
        from agent.transport.grpc.link import GrpcDialer  # noqa: PLC0415 - only who goes this way

        dialers["grpc"] = GrpcDialer(
            identity.session_address, identity.server_ca_pem, paths.key_pem, paths.certificate_pem
        )
    broker = broker_of(home, paths.config, identity) if "mqtt" in wanted else None
    if broker is not None:
        from agent.transport.mqtt.dialer import DeviceAccess, MqttDialer  # noqa: PLC0415 - as above

        access = DeviceAccess(
            device=identity.device,
            broker=broker,
            server_ca_pem=identity.server_ca_pem,
            key_pem=paths.key_pem,
            certificate_pem=paths.certificate_pem,
            next_session=paths.next_session,
        )
        keepalive = paths.config.mqtt.keepalive_seconds
        dialers["mqtt"] = MqttDialer(access, clock, rng, paths.on_desired, keepalive=keepalive)
    known = [Route(name, dialers[name]) for name in wanted if name in dialers]
    if not known:
        raise ConfigError(no_address(home, wanted))
    return known


def no_address(home: Home, wanted: Sequence[str]) -> str:
    """What is wrong where a device has none of the transports that it may take."""
    known = f"this device knows no address for {' or '.join(wanted)}"
    if "mqtt" in wanted:
        known += "; the controller has named no broker, and [mqtt] address names none"
    return f"{home.path / FILE_NAME}: [connecting] transports: {known}"


def enrolment_dialer(
    home: Home, config: AgentConfig, clock: Clock, connection: Connection | None = None
) -> EnrolmentDialer:
    """The ways to ask a controller without a certificate, in the order of the configuration.

    Before all of them, a live link of the ``connection``.
    """

    def dial(contact: Contact) -> list[Way]:
        over_link = []
        if connection is not None and connection.is_up:
            over_link.append(Way("link", connection.via, LinkEnrolment(connection)))
        wanted = config.connecting.transports
        ways: dict[str, Way] = {}
        if "grpc" in wanted and contact.address:
            from agent.transport.grpc.enrolment import EnrolmentClient  # noqa: PLC0415 - as above

            asking: Enrolment = EnrolmentClient(contact.address, contact.server_ca_pem)
            ways["grpc"] = Way("grpc", contact.address, asking)
        broker = strangers_of(home, config, contact) if "mqtt" in wanted else None
        if broker is not None:
            from agent.transport.mqtt.enrolment import MqttEnrolment  # noqa: PLC0415 - as above

            asking = MqttEnrolment(broker, contact.server_ca_pem, clock.now)
            ways["mqtt"] = Way("mqtt", broker.address, asking)
        known = over_link + [ways[name] for name in wanted if name in ways]
        if not known:
            raise ConfigError(
                "this machine knows no address at which the controller is asked for a certificate "
                f"over {' or '.join(wanted)}: the controller has named no broker, and "
                f"{home.path / FILE_NAME}: [mqtt] enrolment_address names none"
            )
        return known

    return dial


def strangers_of(home: Home, config: AgentConfig, contact: Contact) -> Broker | None:
    """As ``broker_of``, of its listener for who has no good certificate."""
    address = config.mqtt.enrolment_address or contact.broker
    if not address:
        return None
    told = contact.broker_ca_pem or contact.server_ca_pem
    return Broker(address, _broker_ca(home, config) or told)


def broker_of(home: Home, config: AgentConfig, identity: Identity) -> Broker | None:
    """The broker's listener for devices; None if none is configured, and the controller named none.

    Raises:
        ConfigError: the CA's file can't be used.
    """
    address = config.mqtt.address or identity.broker_address
    if not address:
        return None
    told = identity.broker_ca_pem or identity.server_ca_pem  # never the system's CAs unasked
    return Broker(address, _broker_ca(home, config) or told)


def _broker_ca(home: Home, config: AgentConfig) -> bytes:
    """What the configuration names, in PEM; empty if it names none."""
    if not config.mqtt.ca:
        return b""
    named = f"{home.path / FILE_NAME}: [mqtt] ca: {config.mqtt.ca}"
    try:
        found = x509.load_pem_x509_certificates((home.path / config.mqtt.ca).read_bytes())
    except OSError as error:
        raise ConfigError(f"{named}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{named}: it holds no certificates in PEM") from error
    # As TLS libraries take them: what people wrote between them is theirs.
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)
