"""Many devices of one controller, made by its own code without asking it over the network."""

from dataclasses import dataclass
from datetime import UTC, datetime

from agent.facts import read_facts
from agent.identity import keys
from agent.identity.token import parse
from controller.config import read_config
from controller.enrolment.actions import create_token, join
from controller.home import Home, terms
from controller.store.certificate_files import Certificates, open_certificates
from protos.v1 import enrolment_pb2


@dataclass(frozen=True, slots=True)
class Member:
    """One device: what it dials with."""

    device: str
    key_pem: bytes
    certificate_pem: bytes
    session_address: str


def certificates_of(home: Home) -> Certificates:
    """The controller's."""
    names = read_config(home.path).names
    return open_certificates(home.certificates, names, datetime.now(UTC))


def invite(home: Home, devices: int) -> list[Member]:
    """Each with a token and a key of its own. No controller may run in ``home``."""
    conditions = terms(home, read_config(home.path), certificates_of(home))
    facts, now = read_facts(home.path), datetime.now(UTC).timestamp()
    members = []
    store = home.open_store()
    try:
        with store.begin() as tx:
            for number in range(devices):
                key = keys.generate_key()
                _, text = create_token(tx, conditions, "bench", now)
                ticket = parse(text)
                request = enrolment_pb2.JoinRequest(
                    token_id=ticket.id,
                    token_secret=ticket.secret,
                    csr_pem=keys.certificate_request(key, f"bench-{number:04}"),
                    name=f"bench-{number:04}",
                    facts=facts,
                )
                reply = join(tx, request, conditions, now)
                members.append(
                    Member(reply.device_id, key, reply.certificate_pem, reply.session_address)
                )
    finally:
        store.close()
    return members
