"""Joining, renewing, and the key file: what a person or the renewal loop asks for."""

import contextlib
import logging
import os
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from agent.errors import (
    AlreadyEnrolled,
    MalformedDocument,
    NobodyAnswered,
    Refused,
    StoreError,
    TransportError,
    Untrusted,
    WrongController,
)
from agent.identity import keys
from agent.identity.token import Ticket, check_unexpired, parse
from agent.identity.whereabouts import met, moved
from agent.store.device_store import DeviceStore, Identity
from agent.transport.enrolment_ways import first_answer
from agent.transport.link import Contact, EnrolmentDialer, Way
from agent.trust.state import mended
from protos.documents import Renewal, sha256
from protos.envelope import seal
from protos.v1 import common_pb2, enrolment_pb2

log = logging.getLogger(__name__)


async def join(
    token: str,
    name: str,
    facts: common_pb2.DeviceFacts,
    key_path: Path,
    store: DeviceStore,
    now: datetime,
    dial: EnrolmentDialer,
    anew: bool = False,
) -> tuple[Identity, Way]:
    """Makes this machine a device: its key in ``key_path``, its identity in ``store``.

    Returns the identity, and the way over which the controller answered.

    May be repeated after a crash at any moment: the key that was sent is kept beside ``key_path``
    (with ``.new`` at its end) until the identity is stored, so that the controller sees the same
    device. What was there before stays untouched until the new identity is complete. ``name`` is
    what the device would like to be called and may be empty; ``anew`` replaces an identity that is
    there already, with a new key.

    Raises:
        BadToken, ExpiredToken: the token is of no use.
        AlreadyEnrolled: there is an identity, and ``anew`` is not set.
        ConfigError: there is no way to ask.
        WrongController: the token is for another controller than the one that answered.
        Refused, NobodyAnswered: the controller said no, or nothing.
        Untrusted: the answer does not fit the request.
        StoreError: a file can't be read or written.
    """
    ticket = parse(token)
    check_unexpired(ticket, now)
    known = store.identity.load()
    if known is not None and not anew:
        raise AlreadyEnrolled(f"this device is enrolled already, as {known.device!r}")
    key_pem = _pending_key(key_path, known)
    request = enrolment_pb2.JoinRequest(
        token_id=ticket.id,
        token_secret=ticket.secret,
        csr_pem=keys.certificate_request(key_pem, name),
        name=name,
        facts=facts,
    )
    contact = Contact(ticket.address, ticket.server_ca_pem, ticket.broker, ticket.broker_ca_pem)
    try:
        reply, way = await first_answer(dial(contact), partial(_ask, request))
    except TransportError as error:
        raise NobodyAnswered(str(error)) from error
    identity = _identity(ticket, reply, key_pem, way)
    with store.transaction():
        store.identity.save(identity)
        if known is not None and _who(known) != _who(identity):
            store.installs.forget_directive()
        store.trust.save(mended(store.trust.load(), identity.root_metadata))
    _settle(key_path)
    log.info("identity.joined device=%s over=%s at=%s", identity.device, way.transport, way.address)
    return identity, way


async def renew(
    key_path: Path, store: DeviceStore, now: datetime, dial: EnrolmentDialer
) -> Identity:
    """The identity with a new certificate for the same key, stored.

    Raises:
        ConfigError: there is no way to ask.
        Refused, TransportError: the controller said no, or nothing.
        Untrusted: who answered is not the controller, or its certificate is not for this device.
        StoreError: there is no identity, or a file can't be read or written.
    """
    identity = store.identity.load()
    if identity is None:
        raise StoreError("there is no identity to renew")
    key_pem = device_key(key_path, identity)

    async def ask(way: Way) -> enrolment_pb2.RenewReply:
        # A wish of its own for each way: of one whose answer was lost, the controller may know.
        counter = store.identity.next_counter()
        return await way.enrolment.renew(_wish(identity.device, key_pem, counter, now))

    reply, _ = await first_answer(dial(contact_of(identity)), ask)
    _check_certificate(reply.certificate_pem, identity.device, key_pem)
    renewed = replace(moved(identity, reply), certificate_pem=reply.certificate_pem)
    store.identity.save(renewed)
    return renewed


def contact_of(identity: Identity) -> Contact:
    """Where the device's controller is asked without a certificate."""
    return Contact(
        identity.enrolment_address,
        identity.server_ca_pem,
        identity.broker_enrolment_address,
        identity.broker_ca_pem,
    )


def device_key(key_path: Path, identity: Identity) -> bytes:
    """The private key, PEM, that belongs to the identity's certificate.

    Completes a ``join`` that lost power after the identity was stored and before its key had its
    final name.

    Raises:
        StoreError: the file is missing or holds another key.
    """
    wanted = keys.read_certificate(identity.certificate_pem).public_key_pem
    pending = _pending(key_path)
    for path in (key_path, pending):
        key_pem = _read(path)
        if key_pem is not None and _is_for(key_pem, wanted):
            if path == pending:
                _settle(key_path)
            _close_to_others(key_path)
            return key_pem
    raise StoreError(f"{key_path}: it is missing, or is not the key of {identity.device!r}")


def _who(identity: Identity) -> tuple[str, bytes]:
    """Whose directives are meant for this device: its name, at one controller."""
    return identity.device, identity.server_ca_pem


def _wish(device: str, key_pem: bytes, counter: int, now: datetime) -> enrolment_pb2.RenewRequest:
    wish = Renewal(
        device=device,
        counter=counter,
        csr_pem=keys.certificate_request(key_pem, device).decode(),
        requested_at=int(now.timestamp()),
    )
    envelope = common_pb2.Envelope.FromString(seal(wish, keys.signer(key_pem)))
    return enrolment_pb2.RenewRequest(renewal=envelope)


async def _ask(request: enrolment_pb2.JoinRequest, way: Way) -> enrolment_pb2.JoinReply:
    try:
        return await way.enrolment.join(request)
    except WrongController as error:
        raise WrongController(
            f"this token is for another controller than the one at {way.address},"
            f" or something in between answers in its place: {error}"
        ) from error
    except Refused as error:
        if error.code == "token-unknown":
            raise Refused(
                error.code,
                f"the controller at {way.address} does not know this token: it is for another"
                f" controller, or was altered ({error})",
                error.remedy,
            ) from error
        raise


def _identity(ticket: Ticket, reply: enrolment_pb2.JoinReply, key_pem: bytes, way: Way) -> Identity:
    if sha256(reply.root_metadata) != ticket.root_sha256:
        raise WrongController(
            f"the controller at {way.address} has another TUF root than this token pins:"
            " this token is for another controller, something in between answers in its place,"
            " or the root was rotated since the token was made"
        )
    _check_certificate(reply.certificate_pem, reply.device_id, key_pem)
    identity = Identity(
        device=reply.device_id,
        certificate_pem=reply.certificate_pem,
        server_ca_pem=ticket.server_ca_pem,
        session_address=reply.session_address,
        enrolment_address=ticket.address,
        root_metadata=reply.root_metadata,
    )
    return met(identity, reply.broker)


def _check_certificate(certificate_pem: bytes, device: str, key_pem: bytes) -> None:
    certificate = keys.read_certificate(certificate_pem)
    if certificate.public_key_pem != keys.public_key(key_pem):
        raise Untrusted("the controller's certificate is not for this device's key")
    if certificate.device != device:
        raise Untrusted(f"the certificate is for {certificate.device!r}, not for {device!r}")


def _pending(key_path: Path) -> Path:
    return key_path.with_name(key_path.name + ".new")


def _pending_key(key_path: Path, known: Identity | None) -> bytes:
    """The key of a join that did not end, or a fresh one that is durable before it is used."""
    pending = _pending(key_path)
    if known is not None:
        with contextlib.suppress(StoreError):
            device_key(key_path, known)  # a key that is in use is not to be sent again
    key_pem = _read(pending)
    if key_pem is not None and _is_key(key_pem):
        return key_pem
    key_pem = keys.generate_key()
    _write_private(pending, key_pem)
    return key_pem


def _settle(key_path: Path) -> None:
    try:
        _pending(key_path).replace(key_path)
        _sync(key_path.parent)
    except OSError as error:
        raise StoreError(f"{key_path}: {error.strerror}") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _is_key(key_pem: bytes) -> bool:
    try:
        keys.public_key(key_pem)
    except MalformedDocument:
        return False
    return True


def _is_for(key_pem: bytes, public_key_pem: bytes) -> bool:
    return _is_key(key_pem) and keys.public_key(key_pem) == public_key_pem


def _close_to_others(path: Path) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        log.warning("identity.key-was-readable path=%s mode=%o", path, mode)
        path.chmod(0o600)


def _write_private(path: Path, data: bytes) -> None:
    """Writes a file that only its owner can read: whole and durable, or not at all."""
    scratch = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - by descriptor, for its mode
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
