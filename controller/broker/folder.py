"""A folder that Mosquitto can run from, as values: each file with what is in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.broker import mosquitto
from controller.broker.listeners import Door
from controller.enrolment.authority import KeyPair, issue_server, revocation_list

NAME = "muster broker"


@dataclass(frozen=True, slots=True)
class BrokerFile:
    """One file. ``secret``: nobody but the broker may read it."""

    name: str
    data: bytes
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whose certificates count: the broker's own, and the devices'."""

    broker: KeyPair
    device: KeyPair


def broker_files(
    place: mosquitto.Place,
    authorities: Authorities,
    hosts: Sequence[str],
    revoked: Sequence[str],
    now: datetime,
) -> tuple[BrokerFile, ...]:
    """All that a broker needs, with a new certificate for it.

    Args:
        place: where the broker runs.
        authorities: who signs the broker's certificate, and the list of what is revoked.
        hosts: names and addresses by which devices and controllers reach the broker.
        revoked: serials (hex) of devices' certificates that are good no more.
        now: from when on the certificate is good.

    Raises:
        InvalidInput: there are no hosts, or one is neither a name nor an address.
    """
    server = issue_server(authorities.broker, hosts, now, NAME)
    return (
        BrokerFile(mosquitto.CONFIGURATION, mosquitto.configuration(place).encode()),
        *(
            BrokerFile(mosquitto.acl_file(door), mosquitto.access_list(door).encode())
            for door in Door
        ),
        BrokerFile(mosquitto.CERTIFICATE, server.certificate_pem),
        BrokerFile(mosquitto.KEY, server.key_pem, secret=True),
        BrokerFile(mosquitto.BROKER_AUTHORITY, authorities.broker.certificate_pem),
        BrokerFile(mosquitto.DEVICE_AUTHORITY, authorities.device.certificate_pem),
        BrokerFile(mosquitto.REVOKED, revocation_list(authorities.device, revoked, now)),
    )
