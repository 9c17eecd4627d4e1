"""The controller's configuration: one frozen value from one TOML file. Unknown keys are errors."""

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent.address import is_address
from agent.wrong_value import wrong_value
from controller.errors import ConfigError
from controller.signing.roles import Lifetimes as MetadataLifetimes

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
# A hundred years: more is a slip of the hand, and no calendar takes any number.
Days = Annotated[float, msgspec.Meta(gt=0, le=36500)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=876000)]
KeepAlive = Annotated[int, msgspec.Meta(ge=1, le=65535)]

FILE_NAME: Final = "controller.toml"


class Listening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the controller answers. All three speak TLS."""

    host: str = "0.0.0.0"  # noqa: S104 - devices and operators come from elsewhere
    api_port: Port = 8443  # operators: REST and /metrics
    session_port: Port = 8444  # devices, mutual TLS
    enrolment_port: Port = 8445  # machines that want to become devices


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long what the controller signs is good for."""

    device_certificate_days: Days = 30.0
    join_token_hours: Hours = 24.0
    snapshot_days: Days = 7.0
    timestamp_days: Days = 1.0

    def device_certificate(self) -> timedelta:
        """Of a device's certificate."""
        return timedelta(days=self.device_certificate_days)

    def metadata(self) -> MetadataLifetimes:
        """As the signing side takes them; what people sign offline keeps its defaults."""
        return MetadataLifetimes(
            snapshot=timedelta(days=self.snapshot_days),
            timestamp=timedelta(days=self.timestamp_days),
        )


class Telemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of what devices tell, and who may read the metrics."""

    retention_days: Days = 90.0
    open_metrics: bool = False  # /metrics without a token


class Retraining(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the controller looks whether the data of a model have changed over its devices."""

    interval_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=86_400)] = 30.0


class Mqtt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker through which devices are reached, too: docs/mqtt.md says how to set one up."""

    broker: str = ""  # host:port of its controllers' listener; empty: no MQTT
    address: str = ""  # host:port of its devices' listener, as devices reach it
    enrolment_address: str = ""  # host:port of its strangers' listener; empty: no joining over it
    ca: str = ""  # PEM file of the CA of the broker's certificate; empty: the controller's own
    keepalive_seconds: KeepAlive = 60


class ControllerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the controller's owner may set.

    ``names`` are the host names and addresses that devices and operators reach it by; the first
    stands in join tokens.
    """

    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("localhost", "127.0.0.1")
    listening: Listening = Listening()
    lifetimes: Lifetimes = Lifetimes()
    telemetry: Telemetry = Telemetry()
    retraining: Retraining = Retraining()
    mqtt: Mqtt = Mqtt()
    log_level: str = "INFO"


def read_config(home: Path) -> ControllerConfig:
    """The configuration in ``home/controller.toml``.

    Raises:
        ConfigError: missing, not TOML, an unknown key or an impossible value; names file and key.
    """
    path = home / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} is missing: make a controller with `muster init {home}`",
            "If there is one already, name its folder with `--home`.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        config = msgspec.convert(tomllib.loads(text), ControllerConfig)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {wrong_value(error)}") from error
    if complaint := _complaint(config.mqtt):
        raise ConfigError(f"{path}: {complaint}")
    return config


def _complaint(mqtt: Mqtt) -> str:
    """What is wrong beyond types, naming the key; empty if all is well."""
    for key in ("broker", "address", "enrolment_address"):
        value = getattr(mqtt, key)
        if value and not is_address(value):
            return f"[mqtt] {key}: {value[:300]!r} is not host:port"
    if mqtt.broker and not mqtt.address:
        return "[mqtt] address: devices have to be told where they find the broker"
    if mqtt.address and not mqtt.broker:
        return "[mqtt] broker: is empty, so that nobody would answer at `address`"
    return ""
