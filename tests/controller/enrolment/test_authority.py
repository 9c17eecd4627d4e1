import base64
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.identity import keys
from controller.enrolment.authority import (
    KeyPair,
    check_request,
    covers,
    create_authority,
    device_names,
    issue_device,
    issue_server,
    revocation_list,
)
from controller.errors import BadRequestForCertificate, InvalidInput

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVER_CA = create_authority("server CA", NOW)
DEVICE_CA = create_authority("device CA", NOW)
HOSTS = ("controller.example", "localhost", "127.0.0.1", "::1")


def certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def verify_client(pem: bytes, authority: KeyPair, at: datetime) -> None:
    policy = (
        PolicyBuilder()
        .store(Store([certificate(authority.certificate_pem)]))
        .time(at)
        .extension_policies(
            ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
        )
        .build_client_verifier()
    )
    policy.verify(certificate(pem), [])


def device_certificate(lifetime: timedelta = timedelta(days=30)) -> bytes:
    request = check_request(keys.certificate_request(keys.generate_key(), "wish"))
    return issue_device(DEVICE_CA, request, "press-7", NOW, lifetime).certificate_pem


def request_with(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def tampered() -> bytes:
    """A request whose key was replaced by another after it was signed."""
    good = x509.load_pem_x509_csr(request_with(ec.generate_private_key(ec.SECP256R1())))
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = good.public_bytes(serialization.Encoding.DER)
    swapped = der.replace(good.public_key().public_bytes(*form), other.public_bytes(*form))
    return x509.load_der_x509_csr(swapped).public_bytes(serialization.Encoding.PEM)


def of_no_version() -> bytes:
    """A request of a version that there is none of."""
    good = x509.load_pem_x509_csr(request_with(ec.generate_private_key(ec.SECP256R1())))
    der = good.public_bytes(serialization.Encoding.DER)
    body = base64.encodebytes(der.replace(b"\x02\x01\x00", b"\x02\x01\x4d", 1)).decode()
    name = "CERTIFICATE REQUEST"
    return f"-----BEGIN {name}-----\n{body}-----END {name}-----\n".encode()


def test_an_authority_signs_leaves_only() -> None:
    authority = certificate(SERVER_CA.certificate_pem)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value

    assert constraints.ca
    assert constraints.path_length == 0
    assert authority.not_valid_after_utc - NOW >= timedelta(days=3650)


def test_a_private_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(SERVER_CA)


def test_the_servers_certificate_is_good_for_each_of_its_hosts() -> None:
    pair = issue_server(SERVER_CA, HOSTS, NOW)
    builder = PolicyBuilder().store(Store([certificate(SERVER_CA.certificate_pem)])).time(NOW)
    subjects: Sequence[x509.DNSName | x509.IPAddress] = (
        x509.DNSName("controller.example"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    )
    for subject in subjects:
        builder.build_server_verifier(subject).verify(certificate(pair.certificate_pem), [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(
            certificate(pair.certificate_pem), []
        )


@pytest.mark.parametrize("hosts", [(), ("no host",), ("",), ("a..b",), ("x/y",)])
def test_hosts_that_are_none_are_refused(hosts: Sequence[str]) -> None:
    with pytest.raises(InvalidInput, match="host"):
        issue_server(SERVER_CA, hosts, NOW)


def test_a_server_certificate_is_issued_anew_for_other_hosts_or_near_its_end() -> None:
    pem = issue_server(SERVER_CA, HOSTS, NOW).certificate_pem

    assert covers(pem, tuple(reversed(HOSTS)), NOW + timedelta(days=300))
    assert not covers(pem, (*HOSTS, "new.example"), NOW)
    assert not covers(pem, HOSTS[:-1], NOW)
    assert not covers(pem, HOSTS, NOW + timedelta(days=400))


def test_a_device_is_a_client_of_its_own_authority_and_nothing_else() -> None:
    pem = device_certificate()
    purposes = certificate(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    verify_client(pem, DEVICE_CA, NOW)

    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(VerificationError):
        verify_client(pem, SERVER_CA, NOW)


def test_a_device_whose_clock_is_a_little_behind_can_use_its_certificate_at_once() -> None:
    verify_client(device_certificate(), DEVICE_CA, NOW - timedelta(minutes=4))


def test_a_certificate_ends() -> None:
    with pytest.raises(VerificationError):
        verify_client(
            device_certificate(timedelta(days=1)), DEVICE_CA, NOW + timedelta(days=1, minutes=1)
        )


def test_the_names_in_a_request_count_for_nothing() -> None:
    request = check_request(keys.certificate_request(keys.generate_key(), "root"))
    issued = issue_device(DEVICE_CA, request, "press-7", NOW)

    assert certificate(issued.certificate_pem).subject.rfc4514_string() == "CN=press-7"


@pytest.mark.parametrize(
    ("csr_pem", "wrong"),
    [
        (b"", "PKCS#10"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "PKCS"),
        (of_no_version(), "PKCS"),
        (b"x" * 5000, "5000 bytes"),
        (request_with(rsa.generate_private_key(65537, 2048)), "not ECDSA"),
        (request_with(ec.generate_private_key(ec.SECP384R1())), "secp384r1"),
        (request_with(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
        (tampered(), "signature does not hold"),
    ],
    ids=["empty", "no-der", "no-version", "too-large", "rsa", "p-384", "k-256", "tampered"],
)
def test_a_request_outside_the_policy_is_refused(csr_pem: bytes, wrong: str) -> None:
    with pytest.raises(BadRequestForCertificate, match=wrong):
        check_request(csr_pem)


def test_an_ed25519_request_is_refused() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    key = ed25519.Ed25519PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)

    with pytest.raises(BadRequestForCertificate, match="not ECDSA"):
        check_request(request.public_bytes(serialization.Encoding.PEM))


@settings(max_examples=200)
@given(requested=st.text(max_size=300))
def test_an_id_is_safe_in_a_topic_a_url_and_a_common_name(requested: str) -> None:
    for name in device_names(requested, b"key"):
        assert 1 <= len(name) <= 64
        assert name.strip("-") == name
        assert all(character in "abcdefghijklmnopqrstuvwxyz0123456789-" for character in name)


def test_the_wish_comes_first_and_another_key_gets_another_id() -> None:
    one, other = device_names("Press 7", b"key"), device_names("Press 7", b"other")

    assert one[0] == other[0] == "press-7"
    assert set(one[1:]).isdisjoint(other[1:])
    assert device_names("", b"key") == device_names("!!", b"key")


def test_a_list_of_what_is_revoked_names_the_serials_and_lasts_as_long_as_its_authority() -> None:
    serials = ["1f", format(2**159 - 1, "x")]
    made = x509.load_pem_x509_crl(revocation_list(DEVICE_CA, serials, NOW))
    authority = certificate(DEVICE_CA.certificate_pem)

    assert [one.serial_number for one in made] == [0x1F, 2**159 - 1]
    public_key = authority.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert made.is_signature_valid(public_key)
    assert made.issuer == authority.subject
    assert made.next_update_utc == authority.not_valid_after_utc
    # A broker whose clock is a little behind takes it, too.
    assert made.last_update_utc == NOW - timedelta(minutes=5)


def test_of_two_lists_of_what_is_revoked_the_later_is_the_newer() -> None:
    first = x509.load_pem_x509_crl(revocation_list(DEVICE_CA, [], NOW))
    later = x509.load_pem_x509_crl(revocation_list(DEVICE_CA, [], NOW + timedelta(seconds=1)))

    assert first.last_update_utc < later.last_update_utc
    numbers = [
        one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for one in (first, later)
    ]
    assert numbers[0] < numbers[1]
