"""The device's key, its certificate requests and its certificate: bytes in, bytes out."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.errors import MalformedDocument
from protos.keys import CryptoSigner, Key, Signer, SSlibKey


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a device's certificate says.

    Attributes:
        device: the subject's common name.
        serial: lowercase hex.
        fingerprint: SHA-256 of the DER form, lowercase hex.
    """

    device: str
    serial: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    public_key_pem: bytes


def generate_key() -> bytes:
    """A fresh ECDSA P-256 private key: PKCS#8 PEM, not encrypted."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_request(key_pem: bytes, name: str) -> bytes:
    """A PKCS#10 request in PEM, signed with the key; its common name is the requested name.

    Raises:
        MalformedDocument: the key is not an ECDSA P-256 key in PEM.
    """
    # A common name is 1 to 64 characters; an empty wish leaves the choice to the controller.
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name[:64])] if name else []
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    signed = request.sign(_private_key(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def public_key(key_pem: bytes) -> bytes:
    """The public half of a private key, as PEM.

    Raises:
        MalformedDocument: the key is not an ECDSA P-256 key in PEM.
    """
    return _public_pem(_private_key(key_pem).public_key())


def read_certificate(certificate_pem: bytes) -> Certificate:
    """What the certificate says. Who issued it is for TLS to verify.

    Raises:
        MalformedDocument: it is no certificate, or names no device.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise MalformedDocument(f"certificate: {error}") from error
    if len(names) != 1 or not isinstance(key, ec.EllipticCurvePublicKey):
        raise MalformedDocument("certificate: it names no device, or has no ECDSA key")
    return Certificate(
        device=str(names[0].value),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=hashlib.sha256(
            certificate.public_bytes(serialization.Encoding.DER)
        ).hexdigest(),
        public_key_pem=_public_pem(key),
    )


def signer(key_pem: bytes) -> Signer:
    """Signs the device's documents with its key.

    Raises:
        MalformedDocument: the key is not an ECDSA P-256 key in PEM.
    """
    return CryptoSigner(_private_key(key_pem))


def verifier(public_key_pem: bytes) -> Key:
    """Checks what the device with that public key signs.

    Raises:
        MalformedDocument: it is no ECDSA public key in PEM.
    """
    try:
        key = serialization.load_pem_public_key(public_key_pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedDocument(f"public key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MalformedDocument("public key: it is no ECDSA key")
    return SSlibKey.from_crypto(key)


def _private_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedDocument(f"private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise MalformedDocument("private key: it is no ECDSA P-256 key")
    return key


def _public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
