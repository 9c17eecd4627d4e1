"""On what terms machines join: what controller.toml says of the broker, checked before anybody needs it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.config import ControllerConfig, Mqtt
from controller.enrolment.authority import create_authority
from controller.enrolment.terms import BrokerTerms
from controller.errors import ConfigError
from controller.home import Home, terms
from controller.store.certificate_files import Certificates, open_certificates

NOW = datetime.now(UTC)
OTHER_CA = create_authority("theirs", NOW).certificate_pem
MQTT = Mqtt(broker="broker:8884", address="broker:8883", enrolment_address="broker:8885")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "root.json").write_bytes(b"root")
    return Home(tmp_path)


@pytest.fixture
def certificates(home: Home) -> Certificates:
    return open_certificates(home.certificates, ("localhost",), NOW)


def test_without_a_broker_nothing_is_said_of_one(home: Home, certificates: Certificates) -> None:
    assert terms(home, ControllerConfig(), certificates).broker is None


def test_a_broker_is_told_with_the_controllers_own_ca(
    home: Home, certificates: Certificates
) -> None:
    found = terms(home, ControllerConfig(mqtt=MQTT), certificates).broker

    ca_pem = certificates.broker_authority.certificate_pem
    assert found == BrokerTerms("broker:8883", "broker:8885", ca_pem)


def test_a_broker_of_another_ca_is_told_with_that(home: Home, certificates: Certificates) -> None:
    (home.path / "theirs.pem").write_bytes(b"Theirs, since 2026:\n" + OTHER_CA + OTHER_CA)
    config = ControllerConfig(mqtt=Mqtt(broker="b:1", address="b:2", ca="theirs.pem"))

    assert terms(home, config, certificates).broker == BrokerTerms("b:2", "", OTHER_CA + OTHER_CA)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "no certificate"),
        (b"\xff nonsense", "no certificate"),
        (OTHER_CA * 40, "a join token has room for 3072"),
    ],
)
def test_what_is_no_ca_is_refused_with_its_file(
    home: Home, certificates: Certificates, content: bytes | None, why: str
) -> None:
    if content is not None:
        (home.path / "ca.pem").write_bytes(content)
    config = ControllerConfig(mqtt=Mqtt(broker="b:1", address="b:2", ca="ca.pem"))

    with pytest.raises(ConfigError, match=why) as caught:
        terms(home, config, certificates)
    assert str(home.path / "ca.pem") in caught.value.detail
