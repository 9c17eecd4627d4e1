import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from controller.errors import ConfigError, InvalidInput
from controller.store.certificate_files import open_certificates
from protos.mqtt.topics import CONTROLLER

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTS = ("controller.example", "10.0.0.1")


def test_what_is_made_once_is_found_again(tmp_path: Path) -> None:
    made = open_certificates(tmp_path / "ca", HOSTS, NOW)

    assert open_certificates(tmp_path / "ca", HOSTS, NOW + timedelta(days=30)) == made
    assert made.server_authority != made.device_authority


def test_only_their_owner_can_read_the_files(tmp_path: Path) -> None:
    open_certificates(tmp_path / "ca", HOSTS, NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()}

    names = ("server-ca", "device-ca", "server", "broker-ca", "broker-client")
    assert modes == {f"{name}.pem": 0o600 for name in names}
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("hosts", "days"), [(("new.example",), 0), ((*HOSTS, "new.example"), 0), (HOSTS, 310)]
)
def test_the_servers_certificate_is_renewed_and_the_authorities_are_not(
    tmp_path: Path, hosts: tuple[str, ...], days: int
) -> None:
    made = open_certificates(tmp_path, HOSTS, NOW)
    again = open_certificates(tmp_path, hosts, NOW + timedelta(days=days))

    assert again.server != made.server
    assert again.server_authority == made.server_authority
    assert again.device_authority == made.device_authority
    assert open_certificates(tmp_path, hosts, NOW + timedelta(days=days)) == again


def test_the_brokers_authority_stays_and_what_controllers_show_to_it_is_renewed(
    tmp_path: Path,
) -> None:
    made = open_certificates(tmp_path, HOSTS, NOW)
    soon = open_certificates(tmp_path, HOSTS, NOW + timedelta(days=300))
    late = open_certificates(tmp_path, HOSTS, NOW + timedelta(days=310))

    assert soon.broker_client == made.broker_client != late.broker_client
    assert late.broker_authority == made.broker_authority
    shown = x509.load_pem_x509_certificate(late.broker_client.certificate_pem)
    authority = x509.load_pem_x509_certificate(made.broker_authority.certificate_pem)
    shown.verify_directly_issued_by(authority)
    assert shown.subject.rfc4514_string() == f"CN={CONTROLLER}"
    usage = shown.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_folder_of_before_the_broker_gets_what_is_missing(tmp_path: Path) -> None:
    made = open_certificates(tmp_path, HOSTS, NOW)
    for name in ("broker-ca.pem", "broker-client.pem"):
        (tmp_path / name).unlink()
    again = open_certificates(tmp_path, HOSTS, NOW)

    assert again.device_authority == made.device_authority
    assert again.broker_authority != made.broker_authority
    assert open_certificates(tmp_path, HOSTS, NOW) == again


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    open_certificates(tmp_path, HOSTS, NOW)
    (tmp_path / "device-ca.pem").chmod(0o640)

    with pytest.raises(ConfigError, match=r"device-ca\.pem.*640"):
        open_certificates(tmp_path, HOSTS, NOW)


@pytest.mark.parametrize("damage", [b"", b"no key", None])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, damage: bytes | None) -> None:
    open_certificates(tmp_path, HOSTS, NOW)
    path = tmp_path / "server-ca.pem"
    other = open_certificates(tmp_path / "other", HOSTS, NOW).server_authority.key_pem
    certificate = open_certificates(tmp_path, HOSTS, NOW).server_authority.certificate_pem
    path.write_bytes(other + certificate if damage is None else damage)
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"server-ca\.pem"):
        open_certificates(tmp_path, HOSTS, NOW)
    assert path.read_bytes() == before


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match=r"server-ca\.pem"):
        open_certificates(tmp_path / "file" / "ca", HOSTS, NOW)


def test_a_wrong_host_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="bad host"):
        open_certificates(tmp_path, ("bad host",), NOW)
