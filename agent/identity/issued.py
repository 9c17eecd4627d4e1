"""Certificates that travel in messages: what TLS would check of them, where it does not see them."""

from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from agent.errors import AgentError
from agent.identity.keys import Certificate, read_certificate
from protos.errors import DocumentError

_NO_CERTIFICATE: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
)


def issued(
    der: bytes,
    authority: x509.Certificate,
    purpose: x509.ObjectIdentifier,
    now: datetime,
    whose: str,
) -> Certificate:
    """What the certificate says, if the authority itself has issued it for that use, and it is good now.

    ``whose`` says in a complaint who should have shown one of their own: "controller", "devices".

    Raises:
        DocumentError: ``bad-signature``: it is not; the message says why.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(authority)
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found = read_certificate(certificate.public_bytes(serialization.Encoding.PEM))
    except _NO_CERTIFICATE as error:
        raise DocumentError("bad-signature", f"not a certificate of our {whose}") from error
    except AgentError as error:
        raise DocumentError("bad-signature", error.detail) from error
    if purpose not in uses:
        raise DocumentError("bad-signature", f"the certificate is not for our {whose}")
    if now < found.not_before:
        raise DocumentError("bad-signature", "the certificate is not valid yet")
    if now > found.not_after:
        raise DocumentError("bad-signature", "the certificate has expired")
    return found
