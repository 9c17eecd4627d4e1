import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.errors import MalformedDocument
from agent.identity import keys
from controller.enrolment.authority import check_request, create_authority, issue_device
from protos.documents import Report
from protos.envelope import seal, unseal
from protos.errors import DocumentError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_key_is_ecdsa_p256_and_never_twice_the_same() -> None:
    key = serialization.load_pem_private_key(keys.generate_key(), None)

    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert keys.generate_key() != keys.generate_key()


def test_a_request_names_the_device_and_is_signed_with_its_key() -> None:
    key_pem = keys.generate_key()
    request = x509.load_pem_x509_csr(keys.certificate_request(key_pem, "press-7"))

    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=press-7"
    assert check_request(keys.certificate_request(key_pem, "x")).public_key_pem == keys.public_key(
        key_pem
    )


@pytest.mark.parametrize("name", ["", "n" * 300, "Käse & Söhne"])
def test_any_name_can_be_asked_for(name: str) -> None:
    check_request(keys.certificate_request(keys.generate_key(), name))


def test_a_certificate_is_read() -> None:
    key_pem = keys.generate_key()
    authority = create_authority("device CA", NOW)
    request = check_request(keys.certificate_request(key_pem, "wish"))
    issued = issue_device(authority, request, "press-7", NOW, timedelta(days=2))
    certificate = keys.read_certificate(issued.certificate_pem)

    assert certificate.device == "press-7"
    assert certificate.serial == issued.serial
    assert certificate.not_before == NOW - timedelta(minutes=5)
    assert certificate.not_after == NOW + timedelta(days=2)
    assert certificate.public_key_pem == keys.public_key(key_pem)
    parsed = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert certificate.fingerprint == parsed.fingerprint(hashes.SHA256()).hex()


def rsa_key() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize("key_pem", [b"", b"no key", rsa_key()])
def test_what_is_no_device_key_is_refused(key_pem: bytes) -> None:
    with pytest.raises(MalformedDocument, match="private key"):
        keys.certificate_request(key_pem, "x")
    with pytest.raises(MalformedDocument, match="private key"):
        keys.signer(key_pem)


def test_a_certificate_of_a_version_that_there_is_none_of_is_refused() -> None:
    good = x509.load_pem_x509_certificate(create_authority("press-7", NOW).certificate_pem)
    der = good.public_bytes(serialization.Encoding.DER)
    body = base64.encodebytes(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x4d", 1))
    pem = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"

    with pytest.raises(MalformedDocument, match="certificate"):
        keys.read_certificate(pem)


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(MalformedDocument, match="certificate"):
        keys.read_certificate(b"nothing")
    with pytest.raises(MalformedDocument, match="public key"):
        keys.verifier(b"nothing")


def test_what_a_device_signs_its_public_key_verifies_and_no_other() -> None:
    key_pem = keys.generate_key()
    report = Report(device="d1", counter=1, generation=0, reported_at=0)
    envelope = seal(report, keys.signer(key_pem))

    assert unseal(envelope, Report, [keys.verifier(keys.public_key(key_pem))]) == report
    with pytest.raises(DocumentError, match="report"):
        unseal(envelope, Report, [keys.verifier(keys.public_key(keys.generate_key()))])
