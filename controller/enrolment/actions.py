"""Join tokens, joining, renewal, revocation: each one transaction, each in the audit record.

Times are Unix seconds.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.identity.keys import verifier
from agent.identity.token import Ticket, encode
from controller.audit import Entry
from controller.enrolment.authority import (
    CertificateRequest,
    DeviceCertificate,
    check_request,
    device_names,
    issue_device,
)
from controller.enrolment.terms import Terms
from controller.enrolment.token import (
    ENTROPY_BYTES,
    JoinToken,
    authenticate,
    check_usable,
    mint,
)
from controller.errors import (
    BadRequestForCertificate,
    BadSignature,
    CertificateLapsed,
    Conflict,
    CounterReplayed,
    DeviceRevoked,
    DeviceUnknown,
    InvalidInput,
    NotFound,
)
from controller.federated.settling import disowned
from controller.fleet.attributes import flatten
from controller.fleet.device import Device, DeviceStatus
from controller.store.store import Transaction
from protos.documents import Renewal, sha256
from protos.envelope import peek, unseal
from protos.errors import DocumentError
from protos.v1 import enrolment_pb2

MAX_NAME_CHARACTERS = 255

log = logging.getLogger(__name__)


def create_token(
    tx: Transaction,
    terms: Terms,
    actor: str,
    now: float,
    lifetime: float = 3600.0,
    labels: Mapping[str, str] | None = None,
) -> tuple[JoinToken, str]:
    """A one-time token that makes one device, and its text, which is kept nowhere.

    Raises:
        InvalidInput: the lifetime or a label can't be.
    """
    token, secret = mint(secrets.token_bytes(ENTROPY_BYTES), actor, now, lifetime, labels)
    broker = terms.broker if terms.broker and terms.broker.enrolment_address else None
    ticket = Ticket(
        address=terms.enrolment_address,
        server_ca=_der(terms.server_ca_pem)[0],
        root_sha256=sha256(terms.root_metadata),
        id=token.id,
        secret=secret,
        expires=int(token.expires_at),
        broker=broker.enrolment_address if broker else "",
        broker_ca=_der(broker.ca_pem) if broker else (),
    )
    tx.tokens.put(token)
    _audit(tx, actor, "token.create", token.id, now, {**token.labels})
    return token, encode(ticket)


def join(
    tx: Transaction, request: enrolment_pb2.JoinRequest, terms: Terms, now: float
) -> enrolment_pb2.JoinReply:
    """Consumes the token and makes the device.

    The same key with the same token gets its device again: the first reply was lost.

    Raises:
        TokenUnknown, TokenUsed, TokenExpired: the token does not serve.
        BadRequestForCertificate, InvalidInput: the request can't be signed.
        DeviceRevoked: the key is a revoked device's.
        Conflict: every id for the device is taken.
    """
    # (1) The secret proves that an operator invited. (2) The request's signature proves that the
    # caller holds the key. (3) A used token serves its own key only. (4) A token serves in its time.
    # (5) A revoked key stays revoked. (6) Token, device and audit are written together.
    if len(request.name) > MAX_NAME_CHARACTERS:
        raise InvalidInput(f"name: {len(request.name)} characters; {MAX_NAME_CHARACTERS} at most")
    token = authenticate(tx.tokens.get(request.token_id), request.token_secret)  # (1)
    wanted = check_request(request.csr_pem)  # (2)
    known = _made_by(tx, token, wanted)  # (3)
    if known is None:
        check_usable(token, now)  # (3) (4)
        device_id, known = _place(tx, request.name, wanted)
    else:
        device_id = known.id
    if known is not None and known.status is DeviceStatus.REVOKED:  # (5)
        raise DeviceRevoked(f"device {known.id!r} was revoked, and so was its key")
    issued = issue_device(terms.device_authority, wanted, device_id, _moment(now), terms.lifetime)
    tx.tokens.put(replace(token, used_at=token.used_at or now, used_by=device_id))  # (6)
    tx.devices.put(_enrolled(known, device_id, request, token, wanted, issued, now))
    again = known is not None
    detail = {"token": token.id, "serial": issued.serial, "invited_by": token.created_by}
    _audit(tx, device_id, "device.join-again" if again else "device.join", device_id, now, detail)
    log.info("enrolment.joined device=%s token=%s again=%s", device_id, token.id, again)
    return enrolment_pb2.JoinReply(
        device_id=device_id,
        certificate_pem=issued.certificate_pem,
        root_metadata=terms.root_metadata,
        session_address=terms.session_address,
        broker=None if terms.broker is None else terms.broker.rendezvous(),
    )


def renew(
    tx: Transaction, request: enrolment_pb2.RenewRequest, terms: Terms, now: float
) -> enrolment_pb2.RenewReply:
    """A new certificate for the same key.

    Raises:
        DeviceUnknown, DeviceRevoked: there is no such device any more.
        BadSignature: the wish is not signed with the device's key.
        CounterReplayed: the wish, or a later document, was seen before.
        CertificateLapsed: the certificate expired too long ago.
        BadRequestForCertificate, InvalidInput: the request can't be signed.
    """
    # (1) Who claims to ask. (2) Only the device's own key may. (3) Once only. (4) Not revoked.
    # (5) In time. (6) The request is for the same key, so that a lost reply locks nobody out.
    envelope = request.renewal.SerializeToString()
    device = _claimed(tx, envelope)  # (1)
    wish = _verified(envelope, device)  # (2)
    if wish.counter <= device.counter:  # (3)
        raise CounterReplayed(
            f"renewal of {device.id!r} with counter {wish.counter}; {device.counter} was seen"
        )
    _check_active(device)  # (4)
    if now >= device.certificate_expires + terms.grace.total_seconds():  # (5)
        raise CertificateLapsed(
            f"the certificate of {device.id!r} expired more than {terms.grace.days} days ago"
        )
    wanted = check_request(wish.csr_pem.encode())
    if wanted.public_key_pem != device.public_key_pem:  # (6)
        raise BadRequestForCertificate(
            "certificate request: a renewal is for the key that the device has; enrol anew for"
            " another"
        )
    issued = issue_device(terms.device_authority, wanted, device.id, _moment(now), terms.lifetime)
    tx.devices.put(
        replace(
            device,
            certificate_serial=issued.serial,
            certificate_expires=issued.expires,
            counter=wish.counter,
        )
    )
    _audit(tx, device.id, "device.renew", device.id, now, {"serial": issued.serial})
    log.info("enrolment.renewed device=%s serial=%s", device.id, issued.serial)
    return enrolment_pb2.RenewReply(
        certificate_pem=issued.certificate_pem,
        session_address=terms.session_address,
        enrolment_address=terms.enrolment_address,
        broker=None if terms.broker is None else terms.broker.rendezvous(),
    )


def revoke(tx: Transaction, device_id: str, actor: str, now: float) -> Device:
    """The device, which may not connect any more. Then cut its link: ``Courier.disconnect``.

    What it has sent in a round that is not closed yet does not count.

    Revoking twice is as revoking once.

    Raises:
        NotFound: there is no such device.
    """
    device = tx.devices.get(device_id)
    if device is None:
        raise NotFound(f"no device {device_id!r}")
    if device.status is DeviceStatus.REVOKED:
        return device
    revoked = replace(device, status=DeviceStatus.REVOKED)
    tx.devices.put(revoked)
    for task in disowned(tx.tasks.unsettled(), device_id):
        tx.tasks.put(task)
    _audit(tx, actor, "device.revoke", device_id, now, {"serial": device.certificate_serial})
    log.info("enrolment.revoked device=%s by=%s", device_id, actor)
    return revoked


def admit(tx: Transaction, device_id: str, certificate_serial: str) -> Device:
    """The device, if it may connect with a certificate that the device CA has signed.

    An older certificate of the same key is good until it expires: the reply to a renewal may have
    been lost.

    Raises:
        DeviceUnknown, DeviceRevoked: it may not.
    """
    device = tx.devices.get(device_id)
    if device is None:
        raise DeviceUnknown(f"no device {device_id!r} (certificate {certificate_serial})")
    _check_active(device)
    return device


def _made_by(tx: Transaction, token: JoinToken, wanted: CertificateRequest) -> Device | None:
    """The device that this token made, if the request is for its key."""
    device = tx.devices.get(token.used_by) if token.used_by else None
    if device is None or device.public_key_pem != wanted.public_key_pem:
        return None
    return device


def _place(tx: Transaction, name: str, wanted: CertificateRequest) -> tuple[str, Device | None]:
    """The first id that is free, or that is this key's already."""
    for candidate in device_names(name, wanted.public_key_pem):
        device = tx.devices.get(candidate)
        if device is None or device.public_key_pem == wanted.public_key_pem:
            return candidate, device
    raise Conflict(f"name: every id for {name!r} is taken; ask for another name")


def _enrolled(
    known: Device | None,
    device_id: str,
    request: enrolment_pb2.JoinRequest,
    token: JoinToken,
    wanted: CertificateRequest,
    issued: DeviceCertificate,
    now: float,
) -> Device:
    if known is None:
        known = Device(device_id, now, wanted.public_key_pem, issued.serial, issued.expires)
    certified = replace(known, certificate_serial=issued.serial, certificate_expires=issued.expires)
    if token.used_by:  # asked again, perhaps by who has recorded it: what was told since stands
        return certified
    labels = {**known.labels, **token.labels}
    return replace(certified, labels=labels, facts=flatten(request.facts))


def _claimed(tx: Transaction, envelope: bytes) -> Device:
    """Who the envelope says that it is from; nothing is verified."""
    try:
        claimed = peek(envelope, Renewal).device
    except DocumentError as error:
        raise InvalidInput(f"renewal: {error.detail}") from error
    device = tx.devices.get(claimed)
    if device is None:
        raise DeviceUnknown(f"no device {claimed[:64]!r}")
    return device


def _verified(envelope: bytes, device: Device) -> Renewal:
    try:
        return unseal(envelope, Renewal, [verifier(device.public_key_pem)])
    except DocumentError as error:
        if error.code == "bad-signature":
            raise BadSignature(f"renewal: not signed with the key of {device.id!r}") from error
        raise InvalidInput(f"renewal: {error.detail}") from error


def _check_active(device: Device) -> None:
    if device.status is DeviceStatus.REVOKED:
        raise DeviceRevoked(f"device {device.id!r} was revoked")


def _audit(
    tx: Transaction, actor: str, action: str, subject: str, now: float, detail: Mapping[str, str]
) -> None:
    tx.audit.append(Entry(actor, action, subject, detail), int(now * 1000))


def _der(pem: bytes) -> tuple[bytes, ...]:
    found = x509.load_pem_x509_certificates(pem)
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
