"""Where the controller is, and its broker, as it says itself when a device joins and when it renews.

What a device can't use is left out and logged: a wrong line in the controller's configuration must
not cost a device its certificate.
"""

import logging
from dataclasses import replace

from cryptography import x509

from agent.address import is_address
from agent.store.device_store import Identity
from protos.v1 import enrolment_pb2

log = logging.getLogger(__name__)


def met(identity: Identity, broker: enrolment_pb2.Rendezvous) -> Identity:
    """The identity with that broker; without one if the controller named none."""
    if not broker.address:
        return replace(identity, broker_address="", broker_enrolment_address="", broker_ca_pem=b"")
    if why := _objection(broker):
        log.warning("identity.broker-unusable device=%s: %s", identity.device, why)
        return identity
    return replace(
        identity,
        broker_address=broker.address,
        broker_enrolment_address=broker.enrolment_address,
        broker_ca_pem=broker.ca_pem,
    )


def moved(identity: Identity, reply: enrolment_pb2.RenewReply) -> Identity:
    """The identity with the addresses of the reply; an older controller's names none."""
    if not reply.session_address:
        return identity
    addresses = (reply.session_address, reply.enrolment_address)
    if not all(map(is_address, addresses)):
        log.warning("identity.addresses-unusable device=%s: %.200s", identity.device, addresses)
        return identity
    there = replace(identity, session_address=addresses[0], enrolment_address=addresses[1])
    return met(there, reply.broker)


def _objection(broker: enrolment_pb2.Rendezvous) -> str:
    for address in (broker.address, broker.enrolment_address):
        if address and not is_address(address):
            return f"{address[:100]!r} is not host:port"
    try:
        x509.load_pem_x509_certificates(broker.ca_pem)
    except (ValueError, x509.InvalidVersion):
        return "its CA is not a certificate"
    return ""
