"""The controller's certificate authorities: bytes in, bytes out.

One signs what the controller shows (devices pin it), one what devices show, and one what an MQTT
broker shows and what controllers show to it. They are separate, so that no device's certificate and
no broker's can ever pass for the controller's.
"""

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.errors import BadRequestForCertificate, InvalidInput

AUTHORITY_LIFETIME: Final = timedelta(days=3653)
SERVER_LIFETIME: Final = timedelta(days=397)
DEVICE_LIFETIME: Final = timedelta(days=30)
BACKDATED: Final = timedelta(minutes=5)
"""Certificates begin a little before now: a device's clock may be behind."""

MAX_REQUEST_BYTES: Final = 4096
MAX_NAME: Final = 48
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM. The key stays out of every ``repr``."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """A certificate as it was issued. ``serial`` is lowercase hex, ``expires`` Unix seconds."""

    certificate_pem: bytes
    serial: str
    expires: float


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request whose signature holds: who sent it has the private key."""

    public_key_pem: bytes


def create_authority(name: str, now: datetime) -> KeyPair:
    """A new CA, ECDSA P-256, that signs leaves only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def issue_server(
    authority: KeyPair, hosts: Sequence[str], now: datetime, name: str = "muster controller"
) -> KeyPair:
    """A server's certificate and key, good for every name and IP address in ``hosts``.

    Raises:
        InvalidInput: there are no hosts, or one is neither a name nor an address.
    """
    if not hosts:
        raise InvalidInput("hosts: at least one name or IP address is needed")
    names = [_general_name(host) for host in hosts]
    key = ec.generate_private_key(ec.SECP256R1())
    issuer, issuer_key = _load(authority)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, issuer.subject, key.public_key(), now, SERVER_LIFETIME)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = _leaf(builder, ExtendedKeyUsageOID.SERVER_AUTH, issuer_key)
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def issue_client(authority: KeyPair, name: str, now: datetime) -> KeyPair:
    """A certificate and key with which to be a client of that name, and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer, issuer_key = _load(authority)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, issuer.subject, key.public_key(), now, SERVER_LIFETIME)
    certificate = _leaf(builder, ExtendedKeyUsageOID.CLIENT_AUTH, issuer_key)
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def revocation_list(authority: KeyPair, serials: Sequence[str], now: datetime) -> bytes:
    """The authority's word, as PEM, that certificates with these serials (hex) are good no more.

    It is good from a little before now, and for as long as the authority: where a list does not
    count yet, or any more, nobody is let in.
    """
    issuer, key = _load(authority)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATED)
        .next_update(max(issuer.not_valid_after_utc, now))
        .add_extension(identifier, critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder(int(serial, 16), now)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_request(csr_pem: bytes) -> CertificateRequest:
    """The request, if it is one that is signed here: ECDSA P-256, signed with its own key.

    Nothing else in it counts: names and extensions are the controller's to choose.

    Raises:
        BadRequestForCertificate: it is not; the message says why.
    """
    if len(csr_pem) > MAX_REQUEST_BYTES:
        raise BadRequestForCertificate(
            f"certificate request: {len(csr_pem)} bytes; {MAX_REQUEST_BYTES} at most"
        )
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadRequestForCertificate("certificate request: it is no PKCS#10 in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadRequestForCertificate("certificate request: its key is not ECDSA; P-256 is due")
    if not isinstance(key.curve, ec.SECP256R1):
        raise BadRequestForCertificate(
            f"certificate request: its key is on {key.curve.name}; P-256 is due"
        )
    if not _self_signed(request):
        raise BadRequestForCertificate("certificate request: its signature does not hold")
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return CertificateRequest(pem)


def issue_device(
    authority: KeyPair,
    request: CertificateRequest,
    device: str,
    now: datetime,
    lifetime: timedelta = DEVICE_LIFETIME,
) -> DeviceCertificate:
    """A certificate with which the device can be a client, and nothing else."""
    issuer, issuer_key = _load(authority)
    public_key = serialization.load_pem_public_key(request.public_key_pem)
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise BadRequestForCertificate("certificate request: its key is not ECDSA; P-256 is due")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    builder = _builder(subject, issuer.subject, public_key, now, lifetime)
    certificate = _leaf(builder, ExtendedKeyUsageOID.CLIENT_AUTH, issuer_key)
    return DeviceCertificate(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        serial=f"{certificate.serial_number:x}",
        expires=certificate.not_valid_after_utc.timestamp(),
    )


def device_names(requested: str, public_key_pem: bytes) -> tuple[str, ...]:
    """Ids for a device of that key, best first: what it asked for, made safe, then with a suffix.

    The suffix is of the key's digest, so that a device that asks again gets the same id, and one
    with another key does not get it.
    """
    digest = hashlib.sha256(public_key_pem).hexdigest()
    plain = re.sub(r"[^a-z0-9]+", "-", requested.lower())[:MAX_NAME].strip("-")
    if not plain:
        return (f"device-{digest[:8]}", f"device-{digest[:32]}")
    return (plain, f"{plain}-{digest[:8]}", f"device-{digest[:32]}")


def lasts(certificate_pem: bytes, until: datetime) -> bool:
    """Whether the certificate is good beyond ``until``."""
    return until < x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc


def covers(certificate_pem: bytes, hosts: Sequence[str], until: datetime) -> bool:
    """Whether the server certificate is good for just these hosts, and beyond ``until``."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    wanted = {_general_name(host) for host in hosts}
    return set(extension.value) == wanted and until < certificate.not_valid_after_utc


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _leaf(
    builder: x509.CertificateBuilder,
    purpose: x509.ObjectIdentifier,
    key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        hint = " (it stands without a port)" if ":" in host else ""
        raise InvalidInput(f"{host!r} is neither a host name nor an IP address{hint}")
    return x509.DNSName(host)


def _self_signed(request: x509.CertificateSigningRequest) -> bool:
    try:
        return request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _load(authority: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(authority.key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput("certificate authority: its key is not ECDSA")
    return x509.load_pem_x509_certificate(authority.certificate_pem), key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
