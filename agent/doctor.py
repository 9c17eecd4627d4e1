"""What `muster-agent doctor` looks at: everything the agent needs, each with its remedy."""

import importlib
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psutil

from agent.config import FILE_NAME, AgentConfig, Mirroring, read_config
from agent.errors import AgentError, ConfigError, NotEnrolled
from agent.facts import RUNTIMES
from agent.home import Home
from agent.identity import keys
from agent.identity.actions import contact_of, device_key
from agent.install.windows import clock_words
from agent.link_note import read_link
from agent.local_time import local_zone
from agent.routes import broker_of, no_address, strangers_of
from agent.serving.server import told_ports
from agent.status import link_line, read_ports, waiting
from agent.store.device_store import Identity
from agent.store.sqlite_store import SqliteStore
from agent.transport.http_mirror import configured_mirror
from protos.mirror import TIMESTAMP

CONNECT_SECONDS: Final = 5.0
LEAST_FREE_BYTES: Final = 256 * 1024 * 1024
LONG_WAIT: Final = timedelta(hours=1)
"""Records that wait longer are not waiting for the next report, but for a controller."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at. ``mark`` is "ok", "warn" or "FAIL"."""

    mark: str
    what: str
    detail: str
    remedy: str = ""

    @property
    def failed(self) -> bool:
        """Whether the agent can't do its work like this."""
        return self.mark == "FAIL"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def examine(home: Home, now: datetime) -> list[Examined]:
    """Everything, in the order in which one would mend it."""
    findings = [_try("configuration", lambda: _configuration(home))]
    try:
        config = read_config(home.path)
    except AgentError:
        config = AgentConfig()
    findings.append(_try("store", lambda: _store(home, now)))
    identity = _identity(home)
    findings.append(_try("identity", lambda: _certificate(home, identity, now)))
    findings += [_runtime(name) for name in RUNTIMES]
    findings.append(_try("disk", lambda: _disk(home)))
    if identity is not None:
        findings.append(_try("clock", lambda: _clock(home, config, now)))
        findings += _ways(home, config, identity)
    if config.mirror.url:
        findings.append(_try("mirror", lambda: _mirror(home, config.mirror)))
    findings.append(_try("serving", lambda: _serving(home, config)))
    if identity is not None:
        findings += _agent(home)
    return findings


def _try(what: str, look: Callable[[], Examined]) -> Examined:
    try:
        return look()
    except AgentError as error:
        return Examined("FAIL", what, error.detail, error.remedy)


def _configuration(home: Home) -> Examined:
    read_config(home.path)
    return Examined("ok", "configuration", _configured(home))


def _configured(home: Home) -> str:
    path = home.path / FILE_NAME
    return str(path) if path.exists() else f"defaults: there is no {path}"


def _store(home: Home, now: datetime) -> Examined:
    if not home.path.is_dir():
        raise NotEnrolled(f"{home.path}: there is no agent")
    with closing(SqliteStore(home.path, read_only=True)) as store:
        records = len(store.spool)
        oldest = store.spool.batch(1, 1)
    detail = f"{home.path}: whole; {waiting(records)}"
    waits = timedelta(milliseconds=now.timestamp() * 1000 - oldest[0].recorded_ms if oldest else 0)
    if waits > LONG_WAIT:
        remedy = "They are kept, the oldest until room is short, and sent when the link is up."
        return Examined("warn", "store", f"{detail}, the oldest for {_spoken(waits)}", remedy)
    return Examined("ok", "store", detail)


def _identity(home: Home) -> Identity | None:
    try:
        with closing(SqliteStore(home.path, read_only=True)) as store:
            return store.identity.load()
    except AgentError:
        return None


def _certificate(home: Home, identity: Identity | None, now: datetime) -> Examined:
    if identity is None:
        raise NotEnrolled(f"{home.path}: this machine is not enrolled")
    device_key(home.key, identity)
    until = keys.read_certificate(identity.certificate_pem).not_after
    detail = f"device {identity.device}, certificate until {until:%Y-%m-%d %H:%M}"
    if until <= now:
        remedy = (
            "Run the agent: it renews by itself while the controller allows it. If it does not, "
            "join again: `muster-agent enrol TOKEN --anew`."
        )
        return Examined("warn", "identity", f"{detail}: expired", remedy)
    return Examined("ok", "identity", detail)


def _runtime(name: str) -> Examined:
    try:
        version = importlib.import_module(name).__version__
    except ImportError as error:
        return Examined("FAIL", name, str(error), "Install it: pip install 'muster[agent]'.")
    return Examined("ok", name, str(version))


def _disk(home: Home) -> Examined:
    there = next(path for path in (home.path, *home.path.parents) if path.exists())
    free = psutil.disk_usage(str(there)).free
    detail = f"{free / 2**20:.0f} MiB free"
    if free < LEAST_FREE_BYTES:
        return Examined("warn", "disk", detail, "Free some: new versions may not fit.")
    return Examined("ok", "disk", detail)


def _clock(home: Home, config: AgentConfig, now: datetime) -> Examined:
    store = SqliteStore(home.path, read_only=True)
    try:
        latest = store.trust.load().latest_time
    finally:
        store.close()
    behind = timedelta(seconds=latest - now.timestamp())
    if behind > timedelta(minutes=5):
        return Examined(
            "warn",
            "clock",
            f"{behind} behind what the controller has signed",
            "Set the clock: certificates and metadata are judged by it.",
        )
    here = clock_words(now.astimezone(local_zone(config.device.timezone)))
    detail = f"{now:%Y-%m-%d %H:%M:%S} UTC; maintenance windows go by {here}"
    return Examined("ok", "clock", detail)


def _ways(home: Home, config: AgentConfig, identity: Identity) -> list[Examined]:
    """What answers where the controller is, and its broker, over the transports that may be taken."""
    findings = []
    if "grpc" in config.connecting.transports:
        addresses = (identity.session_address, identity.enrolment_address)
        findings += [_answering("controller", one, identity.server_ca_pem) for one in addresses]
    if "mqtt" in config.connecting.transports:
        try:
            doors = (
                broker_of(home, config, identity),
                strangers_of(home, config, contact_of(identity)),
            )
        except ConfigError as error:
            return [*findings, Examined("FAIL", "broker", error.detail, error.remedy)]
        findings += [_answering("broker", one.address, one.ca_pem) for one in doors if one]
        if doors[0] is None and "grpc" not in config.connecting.transports:
            missing = no_address(home, config.connecting.transports)
            findings.append(Examined("FAIL", "transports", missing, ConfigError.remedy))
    return findings


def _answering(what: str, address: str, ca_pem: bytes) -> Examined:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context(cadata=ca_pem.decode())
    if what == "controller":
        context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, int(port)), CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            version = secure.version()
    except ssl.SSLCertVerificationError as error:
        remedy = f"Something in between answers in the {what}'s place, or its names have changed."
        if what == "broker":
            remedy = (
                f"{remedy} If another authority signs for it now, name that as `ca` under [mqtt]."
            )
        return Examined("FAIL", what, f"{address}: {error.verify_message}", remedy)
    except OSError as error:
        remedy = "The agent works on without it, and keeps trying. Check the network."
        return Examined("warn", what, f"{address}: {error.strerror or error}", remedy)
    return Examined("ok", what, f"{address} answers, {version}")


def _mirror(home: Home, wanted: Mirroring) -> Examined:
    mirror = configured_mirror(wanted, home.path)
    try:
        mirror.metadata(TIMESTAMP)
    except AgentError as error:
        remedy = "The agent works on without it. Check the address, and `muster mirror sync`."
        return Examined("warn", "mirror", error.detail, remedy)
    return Examined("ok", "mirror", f"{wanted.url} has the fleet's metadata")


def _serving(home: Home, config: AgentConfig) -> Examined:
    ports = read_ports(home)
    if ports:
        return Examined("ok", "serving", told_ports(ports))
    wanted = {"rest": config.serving.rest_port}
    if config.serving.grpc:
        wanted["grpc"] = config.serving.grpc_port
    for name, port in wanted.items():
        why = _taken(config.serving.host, port)
        if why:
            remedy = f"Set serving.{name}_port to a free one in {home.path / FILE_NAME}."
            return Examined("FAIL", "serving", f"{config.serving.host}:{port}: {why}", remedy)
    return Examined("ok", "serving", "no agent runs; its ports are free")


def _agent(home: Home) -> list[Examined]:
    """Whether one runs here, and how its link stands, or stood when one ran last."""
    running, link = bool(read_ports(home)), read_link(home.link)
    findings = []
    if not running:
        remedy = f"Start it: `muster-agent --home {home.path} run`."
        findings.append(Examined("warn", "agent", "enrolled, and not running", remedy))
    if link is None or (not link.code and not running):
        return findings
    remedy = link.remedy or "Wait a moment, and look again."
    if link.refused:
        found = Examined("FAIL", "link", link_line(link, running=running), remedy)
    elif not link.up and running:
        found = Examined("warn", "link", link_line(link, running=running), remedy)
    elif running:
        found = Examined("ok", "link", link_line(link, running=running))
    else:
        return findings  # nobody answered it then: what answers now stands above
    return [*findings, found]


def _spoken(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def _taken(host: str, port: int) -> str:
    """Why nothing can be served there; empty if it can."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ""
