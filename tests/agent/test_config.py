"""What is wrong with a configuration is told in words, and no number is too large to be told."""

from pathlib import Path

import pytest

from agent.config import read_config
from agent.errors import ConfigError
from agent.home import DEFAULT, VARIABLE, home_of
from controller.config import read_config as read_controller_config
from controller.errors import ConfigError as ControllerConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serving]\nrest_port = 70000", "[serving] rest_port: must be a whole number, at most 65535"),
        ("[serving]\nrest_port = 'x'", "[serving] rest_port: must be a whole number, and is text"),
        ("[serving]\nrest_prot = 1", "[serving] rest_prot: there is no such key"),
        ("speed = 1", "`speed`: there is no such key"),
        ("serving = 1", "`serving`: must be a table, and is a whole number"),
        ("[serving]\nallow_remote = 1", "[serving] allow_remote: must be true or false, and is a whole"),
        ("[installing]\nretry_seconds = 0", "[installing] retry_seconds: must be a number, more than 0"),
        ("[installing]\nretry_seconds = 1e300", "retry_seconds: must be a number, at most 31622400"),
        ("[installing]\nretry_seconds = inf", "retry_seconds: must be a number, at most 31622400"),
        ("[watching]\nwindow_seconds = 1e300", "window_seconds: must be a number, at most 31622400"),
        ("[reporting]\nspool_bytes = 9223372036854775807", "spool_bytes: must be a whole number, at"),
        ("[serving]\nthreads = 99999999", "[serving] threads: must be a whole number, at most 1024"),
        ("[device]\ntimezone = 1", "[device] timezone: must be text in quotes, and is a whole"),
        ("[device]\ntimezone = 'Mars/Base'", "[device] timezone: there is no time zone 'Mars/Base'; it"),
        ("[device]\ntimezone = 'Europe'", "[device] timezone: there is no time zone 'Europe'"),
        ("[device]\ntimezone = '../../etc/passwd'", "[device] timezone: there is no time zone '../.."),
        ("[device]\nmetered = 'yes'", "[device] metered: must be true or false, and is text"),
        ("[connecting]\ntransports = []", "[connecting] transports: must be a list, at least 1 long"),
        ("[connecting]\ntransports = 'grpc'", "[connecting] transports: must be a list, and is text"),
        ("[connecting]\ntransports = [1]", "transports[0]: must be text in quotes, and is a whole"),
        ("[connecting]\ntransports = ['mqtt', 'http']", "'http'; there are \"grpc\" and \"mqtt\""),
        ("[connecting]\ntransports = ['mqtt', 'grpc', 'mqtt']", "[connecting] transports: 'mqtt' stands in"),
        ("[connecting]\nreturn_seconds = 0", "[connecting] return_seconds: must be a number, more than 0"),
        ("[connecting]\nbackoff_seconds = 99", "[connecting] backoff_seconds: must be at most backoff_cap"),
        ("[mqtt]\naddress = 'broker'", "[mqtt] address: 'broker' is not host:port"),
        ("[mqtt]\naddress = ':8883'", "[mqtt] address: ':8883' is not host:port"),
        ("[mqtt]\naddress = 'broker:0'", "[mqtt] address: 'broker:0' is not host:port"),
        ("[mqtt]\naddress = 'broker:70000'", "[mqtt] address: 'broker:70000' is not host:port"),
        ("[mqtt]\nenrolment_address = 'broker'", "[mqtt] enrolment_address: 'broker' is not host:port"),
        (f"[mqtt]\naddress = 'broker:{'9' * 5000}'", "is not host:port"),
        ("[mqtt]\nkeepalive_seconds = 70000", "keepalive_seconds: must be a whole number, at most 65535"),
        ("[mqtt]\nkeepalive_seconds = 0", "keepalive_seconds: must be a whole number, at least 1"),
        ("[mirror]\nurl = 'mirror'", "[mirror] url: mirror is not https://HOST"),
        ("[mirror]\nurl = 'http://mirror'", "set allow_plain = true"),
        ("[training]\nhours = ['8-9']", "[training] hours: '8-9' is not HH:MM-HH:MM"),
        ("[training]\ncollect = 'yes'", "[training] collect: must be true or false, and is text"),
        ("[training]\nhold_out = 1.0", "[training] hold_out: must be a number, less than 1"),
        ("[training]\nexamples = 0", "[training] examples: must be a whole number, at least 1"),
        ("[training]\ndays = 0", "[training] days: must be a number, more than 0"),
        ("a = [", "not TOML: "),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_agents_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "agent.toml").write_text(text)

    with pytest.raises(ConfigError) as raised:
        read_config(tmp_path)

    assert raised.value.detail.startswith(f"{tmp_path / 'agent.toml'}: ")
    assert said in raised.value.detail


def test_the_order_of_transports_is_as_it_was_written(tmp_path: Path) -> None:
    text = (
        "[connecting]\ntransports = ['mqtt', 'grpc']\n[mqtt]\naddress = 'broker.example.org:8883'"
    )
    (tmp_path / "agent.toml").write_text(text)
    config = read_config(tmp_path)

    assert config.connecting.transports == ("mqtt", "grpc")
    assert config.mqtt.address == "broker.example.org:8883"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names = []", "`names`: must be a list, at least 1 long"),
        ("names = [1]", "`names[0]`: must be text in quotes, and is a whole number"),
        ("[listening]\napi_port = -1", "[listening] api_port: must be a whole number, at least 0"),
        ("[lifetimes]\ntimestamp_days = 1e300", "timestamp_days: must be a number, at most 36500"),
        ("[lifetimes]\njoin_token_hours = 1e300", "token_hours: must be a number, at most 876000"),
        ("[telemetry]\nretention_days = inf", "retention_days: must be a number, at most 36500"),
    ],
)
def test_what_is_wrong_in_a_controllers_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "controller.toml").write_text(text)

    with pytest.raises(ControllerConfigError) as raised:
        read_controller_config(tmp_path)

    assert said in raised.value.detail


def test_a_variable_that_is_set_to_nothing_names_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert home_of(None).path == DEFAULT

    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert home_of(None).path == tmp_path
