"""Where the controller is, and its broker, as it says itself when a device joins and when it renews.

What a device can't use is left out and logged: a wrong line in the controller's configuration must
not cost a device its certificate.
"""

import logging
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.address import is_address
from agent.store.device_store import Identity
from protos.v1 import enrolment_pb2

log = logging.getLogger(__name__)


def met(identity: Identity, broker: enrolment_pb2.Rendezvous) -> Identity:
    """The identity with that broker; without one if the controller named none."""
    if not broker.address:
        return replace(identity, broker_address="", broker_enrolment_address="", broker_ca_pem=b"")
    try:
        return replace(
            identity,
            broker_address=_checked(broker.address),
            broker_enrolment_address=_checked(broker.enrolment_address),
            broker_ca_pem=_authorities(broker.ca_pem),
        )
    except ValueError as error:
        log.warning("identity.broker-unusable device=%s: %s", identity.device, error)
        return identity


def moved(identity: Identity, reply: enrolment_pb2.RenewReply) -> Identity:
    """The identity with the addresses of the reply; an older controller's names none."""
    if not reply.session_address:
        return identity
    addresses = (reply.session_address, reply.enrolment_address)
    if not all(map(is_address, addresses)):
        log.warning("identity.addresses-unusable device=%s: %.200s", identity.device, addresses)
        return identity
    there = replace(identity, session_address=addresses[0], enrolment_address=addresses[1])
    there = met(there, reply.broker)
    if there != identity:
        log.info(
            "identity.moved device=%s at=%s broker=%s: the agent goes by it from its next start",
            *(there.device, there.session_address, there.broker_address),
        )
    return there


def _checked(address: str) -> str:
    if address and not is_address(address):
        raise ValueError(f"{address[:100]!r} is not host:port")
    return address


def _authorities(pem: bytes) -> bytes:
    """The certificates as TLS libraries take them: with nothing between them."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except x509.InvalidVersion as error:
        raise ValueError("a CA of no known version") from error
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)
