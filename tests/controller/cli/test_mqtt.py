"""`muster mqtt`: what is written for a broker, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from controller.audit import Entry
from controller.broker import emqx, mosquitto
from controller.broker.listeners import Door
from controller.config import ControllerConfig
from controller.enrolment import actions
from controller.store.certificate_files import Certificates, open_certificates
from tests.controller.cli.office import Muster, Office

HOST = "127.0.0.1"


@pytest.fixture
def certificates(office: Office) -> Certificates:
    names = ControllerConfig(names=("127.0.0.1", "localhost")).names
    return open_certificates(office.home.certificates, names, datetime.now(UTC))


def shown(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_folder_has_all_that_mosquitto_needs(
    muster: Muster, office: Office, certificates: Certificates, tmp_path: Path
) -> None:
    folder = tmp_path / "broker"
    ports = ("--devices-port", "1", "--controllers-port", "2", "--strangers-port", "3")
    words = ("mqtt", "setup", folder, "--host", "b.example.org", "--host", HOST, *ports)
    done = muster.ok(*words, "--home", office.home.path)

    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "mosquitto.conf": 0o644,
        **{f"{door}.acl": 0o644 for door in Door},
        "broker.crt": 0o644,
        "broker.key": 0o600,
        "broker-ca.crt": 0o644,
        "device-ca.crt": 0o644,
        "revoked.crl": 0o644,
    }
    text = (folder / "mosquitto.conf").read_text()
    for line in ("listener 1", "listener 2", "listener 3", f"keyfile {folder}/broker.key"):
        assert f"\n{line}\n" in text
    assert "\npersistence_location /var/lib/mosquitto/\n" in text
    authority = x509.load_pem_x509_certificate(certificates.broker_authority.certificate_pem)
    shown(folder / "broker.crt").verify_directly_issued_by(authority)
    assert done.lines[-3:] == [
        '  broker = "b.example.org:2"',
        '  address = "b.example.org:1"',
        '  enrolment_address = "b.example.org:3"',
    ]


def test_a_second_time_only_the_broker_s_certificate_is_another(
    muster: Muster, office: Office, tmp_path: Path
) -> None:
    words = ("mqtt", "setup", tmp_path / "b", "--host", HOST, "--home", office.home.path)
    muster.ok(*words)
    before = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    muster.ok(*words)
    after = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}

    assert before.keys() == after.keys()
    other = {name for name in before if before[name] != after[name]}
    # A list of what is revoked says when it was made.
    assert other <= {"broker.crt", "broker.key", "revoked.crl"}
    assert {"broker.crt", "broker.key"} <= other


def test_a_folder_for_another_machine_names_its_own_places(
    muster: Muster, office: Office, tmp_path: Path
) -> None:
    words = ("mqtt", "setup", tmp_path / "b", "--host", "::1", "--home", office.home.path)
    done = muster.ok(*words, "--installed-in", "/etc/mosquitto/muster", "--data", "/srv/mqtt")
    text = (tmp_path / "b" / "mosquitto.conf").read_text()

    assert str(tmp_path) not in text
    assert "\nacl_file /etc/mosquitto/muster/devices.acl\n" in text
    assert "\npersistence_location /srv/mqtt/\n" in text
    assert '  broker = "[::1]:8884"' in done.lines


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("{}", "--host", "b"), 1, "has other things in it: 'file' [conflict]"),
        (("{}/file", "--host", "b"), 1, "file is a file, no folder [conflict]"),
        (("{}/file/below", "--host", "b"), 1, "Not a directory [store]"),
        (("{}/" + "x" * 100_000, "--host", "b"), 1, "File name too long"),
        (("{}/new", "--host", "a b"), 1, "'a b' is neither a host name nor an IP address"),
        (("{}/new", "--host", ""), 1, "'' is neither a host name nor an IP address"),
        (("{}/new", "--host", "b:8883"), 1, "IP address (it stands without a port)"),
        (("{}/new",), 2, "--host"),
        (("{}/new", "--host", "b", "--devices-port", "8885"), 2, "one for each"),
        (("{}/new", "--host", "b", "--installed-in", "etc"), 2, "does not begin with /"),
        (("{}/new", "--host", "b", "--data", "/a\nuser root"), 1, "can't stand in mosquitto.conf"),
        (("{}/new\nx", "--host", "b"), 1, "can't stand in mosquitto.conf"),
        (("{}/new", "--host", "b", "--home", "{}/file"), 1, "controller.toml"),
    ],
)
def test_what_can_be_no_broker_is_refused_and_nothing_is_written(
    muster: Muster, office: Office, tmp_path: Path, words: tuple[str, ...], status: int, why: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    given = [word.replace("{}", str(tmp_path)) for word in words]
    home = () if "--home" in words else ("--home", office.home.path)

    assert why in muster.refused("mqtt", "setup", *given, *home, status=status)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_controller_that_is_not_there_is_named(muster: Muster, tmp_path: Path) -> None:
    for words in (("crl",), ("setup", tmp_path / "b", "--host", HOST)):
        said = muster.refused("mqtt", *words, "--home", tmp_path / "none")
        assert "controller.toml is missing: make a controller with `muster init" in said
    assert list(tmp_path.iterdir()) == []


def test_every_certificate_of_a_revoked_device_is_on_the_list(
    muster: Muster, office: Office, certificates: Certificates, tmp_path: Path
) -> None:
    office.enrolled("good", "bad")
    with office.store.begin() as tx:
        for device, serial in (("good", "aa"), ("bad", "bb"), ("bad", "cc")):
            tx.audit.append(Entry(device, "device.renew", device, {"serial": serial}), 1)
        tx.audit.append(Entry("bad", "device.seen", "bad", {"serial": "dd"}), 1)
    path = tmp_path / "revoked.crl"
    words = ("mqtt", "crl", path, "--home", office.home.path)
    assert muster.ok(*words).lines[0] == f"{path} names 0 revoked certificates"
    with office.store.begin() as tx:
        revoked = actions.revoke(tx, "bad", "the-admin", 2.0)
    muster.ok(*words)

    made = x509.load_pem_x509_crl(path.read_bytes())
    present = int(revoked.certificate_serial, 16)
    assert [one.serial_number for one in made] == [present, 0xBB, 0xCC]
    authority = x509.load_pem_x509_certificate(certificates.device_authority.certificate_pem)
    key = authority.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert made.is_signature_valid(key)
    printed = muster.ok("mqtt", "crl", "--home", office.home.path).out
    assert [one.serial_number for one in x509.load_pem_x509_crl(printed.encode())] == [
        present, 0xBB, 0xCC,
    ]  # fmt: skip


def test_a_list_that_can_t_be_written_leaves_the_one_that_is_there(
    muster: Muster, office: Office, tmp_path: Path
) -> None:
    said = muster.refused("mqtt", "crl", tmp_path / "none" / "x", "--home", office.home.path)

    assert "[store]" in said
    assert "Name another place" in said
    assert list(tmp_path.iterdir()) == []


def test_the_lists_are_printed_as_they_are_written(muster: Muster) -> None:
    printed = muster.ok("mqtt", "acl").out
    for door in Door:
        assert mosquitto.access_list(door) in printed + "\n"
    printed = muster.ok("mqtt", "acl", "--for", "emqx").out
    assert printed.startswith(emqx.access_rules())
    # All of it can stand in acl.conf.
    assert {line[:1] for line in printed.splitlines()} == {"{", "%", ""}
    assert "--for" in muster.refused("mqtt", "acl", "--for", "hive", status=2)
