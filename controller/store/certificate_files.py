"""The controller's CAs and its own certificates, as files that only their owner can read.

A key and its certificate share one PEM file, so that no crash can part them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from controller.enrolment.authority import (
    KeyPair,
    covers,
    create_authority,
    issue_client,
    issue_server,
    lasts,
)
from controller.errors import ConfigError
from controller.store.private_file import write_private
from protos.mqtt.topics import CONTROLLER

RENEW_BEFORE: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the controller signs with and shows.

    Attributes:
        broker_authority: of an MQTT broker's certificate, and of ``broker_client``.
        broker_client: what controllers show to the broker.
    """

    server_authority: KeyPair
    device_authority: KeyPair
    server: KeyPair
    broker_authority: KeyPair
    broker_client: KeyPair


def open_certificates(folder: Path, hosts: Sequence[str], now: datetime) -> Certificates:
    """What is in the folder; what is missing is made.

    The controller's own certificates are issued anew when ``hosts`` have changed or they end soon:
    devices and brokers pin the CA, so they do not notice.

    Raises:
        ConfigError: a file can't be read or written, is readable by others, or is not what it must
            be; the message names it.
        InvalidInput: a host is neither a name nor an address.
    """
    server_authority = _open(
        folder / "server-ca.pem", lambda: create_authority("muster server CA", now)
    )
    device_authority = _open(
        folder / "device-ca.pem", lambda: create_authority("muster device CA", now)
    )
    path = folder / "server.pem"
    server = _open(path, lambda: issue_server(server_authority, hosts, now))
    if not covers(server.certificate_pem, hosts, now + RENEW_BEFORE):
        server = issue_server(server_authority, hosts, now)
        write_private(path, server.key_pem + server.certificate_pem)
    broker_authority = _open(
        folder / "broker-ca.pem", lambda: create_authority("muster broker CA", now)
    )
    path = folder / "broker-client.pem"
    client = _open(path, lambda: issue_client(broker_authority, CONTROLLER, now))
    if not lasts(client.certificate_pem, now + RENEW_BEFORE):
        client = issue_client(broker_authority, CONTROLLER, now)
        write_private(path, client.key_pem + client.certificate_pem)
    return Certificates(server_authority, device_authority, server, broker_authority, client)


def _open(path: Path, create: Callable[[], KeyPair]) -> KeyPair:
    try:
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    except FileNotFoundError:
        pair = create()
        write_private(path, pair.key_pem + pair.certificate_pem)
        return pair
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"{path}: its mode is {mode:o}: others can read a private key; chmod 600")
    return _parse(path, data)


def _parse(path: Path, data: bytes) -> KeyPair:
    try:
        key = serialization.load_pem_private_key(data, None)
        certificate = x509.load_pem_x509_certificate(data)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: it must hold a private key and its certificate") from error
    if key.public_key() != certificate.public_key():
        raise ConfigError(f"{path}: the certificate is not for the key")
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
