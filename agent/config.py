"""The agent's configuration: one frozen value from one TOML file. Unknown keys are errors."""

import tomllib
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent.address import is_address
from agent.errors import ConfigError
from agent.hours import daily_window
from agent.local_time import named_zone
from agent.transport.mirror import mirror_address
from agent.wrong_value import wrong_value

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
MOST_SECONDS: Final = 366 * 86400.0
"""A year. More is a slip of the hand, and no clock takes any number."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=MOST_SECONDS)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=1024)]
KeepAlive = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Transports = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

FILE_NAME: Final = "agent.toml"
TRANSPORTS: Final = ("grpc", "mqtt")
"""What may carry the agent's link, the one first that is preferred where nobody says otherwise."""


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where this device is, as far as it can't find out by itself."""

    timezone: str = ""  # an IANA name; empty takes the system's
    metered: bool = False  # its link costs by the byte


class Serving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the Open Inference Protocol answers. Port 0 takes a free one (see ``status``)."""

    host: str = "127.0.0.1"
    rest_port: Port = 8500
    grpc: bool = True  # without, the agent is some MiB lighter
    grpc_port: Port = 8501
    allow_remote: bool = False  # a host that is not loopback is refused without this
    threads: Threads = 2  # inference threads; each runs one request at a time


class Installing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a new version is tried on this device."""

    self_test_seconds: Seconds = 60.0
    probation_seconds: Seconds = 60.0  # how long a version that gets no requests stays on probation
    probation_requests: Count = 50  # enough of these end the probation earlier
    retry_seconds: Seconds = 5.0  # first wait after a deferral; doubles up to retry_cap_seconds
    retry_cap_seconds: Seconds = 300.0


class Watching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the data is judged. 0 keeps what the directive says, and else the bundle."""

    window_seconds: Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)] = 0.0
    window_rows: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    checkpoint_seconds: Seconds = 10.0  # so much of an open window is lost if power goes


class Reporting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told to the controller, and how much may wait on the disk."""

    interval_seconds: Seconds = 60.0
    resources_seconds: Seconds = 60.0
    spool_bytes: Count = 32 * 1024 * 1024
    spool_records: Count = 20_000


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether examples are kept here to learn from, how many, and what learning may take."""

    collect: bool = False  # nothing of a request is kept without this
    examples: Count = 2000  # of a model, at most; then the oldest of the commonest class goes
    example_bytes: Count = 64 * 1024 * 1024  # of a model, at most
    days: Annotated[float, msgspec.Meta(gt=0, le=3660)] = 30.0  # none is kept for longer
    hold_out: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.2  # the share that is never trained on
    remember_requests: Count = 1000  # whose inputs wait in memory for their truth
    remember_bytes: Count = 16 * 1024 * 1024
    remember_seconds: Seconds = 3600.0
    threads: Threads = 1
    seconds: Seconds = 300.0  # of running, for one task
    waiting_seconds: Seconds = 900.0  # while requests are answered it stands still: so long in all
    quiet_seconds: Seconds = 0.02  # it goes on when nothing was asked for so long
    memory_bytes: Count = 256 * 1024 * 1024
    steps: Count = 100_000
    take_part: bool = True  # in federated runs, with what is kept: updates go out, no example does
    fewest_examples: Count = 20  # to learn from
    fewest_held_out: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    on_battery: bool = False  # trains without mains, if charged so far:
    battery_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 50.0
    on_metered: bool = False  # parameters and updates may go over a link that costs by the byte
    most_busy: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5  # of the inference threads' time
    hours: Annotated[tuple[str, ...], msgspec.Meta(max_length=24)] = ()  # "22:00-06:00", local time
    cooling_off_seconds: Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)] = 0.0
    worse_by: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.25  # of the loss on the hold-out
    worse_by_more: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.05  # and so much besides


class Connecting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent keeps in touch."""

    transports: Transports = TRANSPORTS  # in order of preference: the first that answers is taken
    return_seconds: Seconds = 300.0  # on a later one: until an earlier one is looked for again
    backoff_seconds: Seconds = 1.0  # back-off is full-jitter between these two
    backoff_cap_seconds: Seconds = 60.0
    trust_refresh_seconds: Seconds = 3600.0


class Mqtt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the broker is, if the controller is reached over one."""

    address: str = ""  # host:port; empty takes what the controller said at joining and renewing
    enrolment_address: str = ""  # host:port of its strangers' listener; empty as above
    ca: str = ""  # PEM file of the CA of its certificate; empty as above
    keepalive_seconds: KeepAlive = 60


class Mirroring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A web server near by with what ``muster mirror sync`` brings there; it is believed nothing."""

    url: str = ""  # https://HOST[:PORT][/PATH]; empty asks nobody but the controller
    ca: str = ""  # PEM file of the CA of its certificate; empty takes those of the system
    allow_plain: bool = False  # http://: everybody on the way can read the models


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that an owner of the device may set; all of it has a default."""

    device: Device = Device()
    serving: Serving = Serving()
    installing: Installing = Installing()
    watching: Watching = Watching()
    reporting: Reporting = Reporting()
    training: Training = Training()
    connecting: Connecting = Connecting()
    mqtt: Mqtt = Mqtt()
    mirror: Mirroring = Mirroring()
    log_level: str = "INFO"


def read_config(home: Path) -> AgentConfig:
    """The configuration in ``home/agent.toml``; defaults if there is no such file.

    Raises:
        ConfigError: not TOML, an unknown key or an impossible value; names the file and the key.
    """
    path = home / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return AgentConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        config = msgspec.convert(tomllib.loads(text), AgentConfig)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {wrong_value(error)}") from error
    if complaint := _complaint(config):
        raise ConfigError(f"{path}: {complaint}")
    return config


def only_over(config: AgentConfig, transport: str) -> AgentConfig:
    """The same, but for the transports: that one alone."""
    connecting = msgspec.structs.replace(config.connecting, transports=(transport,))
    return msgspec.structs.replace(config, connecting=connecting)


def _complaint(config: AgentConfig) -> str:
    """What is wrong with a value beyond its type, naming the key; empty if all is well."""
    if config.device.timezone:
        try:
            named_zone(config.device.timezone)
        except ConfigError as error:
            return f"[device] timezone: {error.detail}"
    connecting = config.connecting
    for name in connecting.transports:
        if name not in TRANSPORTS:
            known = " and ".join(f'"{one}"' for one in TRANSPORTS)
            return f"[connecting] transports: there is no transport {name!r}; there are {known}"
        if connecting.transports.count(name) > 1:
            return f"[connecting] transports: {name!r} stands in it more than once"
    if connecting.backoff_seconds > connecting.backoff_cap_seconds:
        return "[connecting] backoff_seconds: must be at most backoff_cap_seconds"
    for text in config.training.hours:
        if daily_window(text) is None:
            return f"[training] hours: {text[:300]!r} is not HH:MM-HH:MM"
    return _complaint_of_mqtt(config.mqtt) or _complaint_of_mirror(config.mirror)


def _complaint_of_mqtt(mqtt: Mqtt) -> str:
    for key in ("address", "enrolment_address"):
        value = getattr(mqtt, key)
        if value and not is_address(value):
            return f"[mqtt] {key}: {value[:300]!r} is not host:port"
    return ""


def _complaint_of_mirror(mirror: Mirroring) -> str:
    if mirror.url:
        try:
            mirror_address(mirror.url, allow_plain=mirror.allow_plain)
        except ConfigError as error:
            return error.detail
    return ""
