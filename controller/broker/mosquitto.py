"""Mosquitto (2.0 and later): its configuration and access lists, out of ``protos.mqtt.topics.RULES``.

Each listener has an access list of its own, so that a name means something only where it is proven:
no device can be a controller, whatever it calls itself and wherever it connects.

Mosquitto asks its lists when a message is written and when one is delivered. It grants every
subscription; one that is not allowed just never gets anything. So client ids and the group of the
controllers' shared subscription have to be secrets: ``protos.mqtt.secret_names`` says why.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from controller.broker.listeners import (
    INFLIGHT_MESSAGES,
    KEEPALIVE_SECONDS,
    PACKET_BYTES,
    PARTIES,
    QUEUED_BYTES,
    QUEUED_MESSAGES,
    STRANGERS,
    Door,
    Ports,
)
from protos.mqtt.topics import CONTROLLER, RULES, Party, Rule

CONFIGURATION: Final = "mosquitto.conf"
CERTIFICATE: Final = "broker.crt"
KEY: Final = "broker.key"
DEVICE_AUTHORITY: Final = "device-ca.crt"
BROKER_AUTHORITY: Final = "broker-ca.crt"
REVOKED: Final = "revoked.crl"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a broker runs.

    Attributes:
        folder: of these files, on the broker's machine: absolute.
        data: what the broker keeps over a restart.
        address: where it listens; empty: everywhere.
        user: what a broker that is started by root becomes; empty: what Mosquitto chooses.
    """

    folder: PurePosixPath
    data: PurePosixPath
    ports: Ports
    address: str = ""
    user: str = ""


def acl_file(door: Door) -> str:
    """Name of the door's access list."""
    return f"{door}.acl"


def access_list(door: Door) -> str:
    """What who comes through the door may do; everything else is denied."""
    party = PARTIES[door]
    lines = [f"# The {door}' listener: what is not listed is denied. Made by `muster mqtt`."]
    if party is not Party.CONTROLLER:
        lines.append("# Mosquitto warns of a pattern that is the same for all: that is meant.")
    if party is Party.CONTROLLER:
        lines.append(f"user {CONTROLLER}")
    lines += [_line(rule) for rule in RULES if rule.party is party]
    return "\n".join(lines) + "\n"


def _line(rule: Rule) -> str:
    if rule.party is Party.CONTROLLER:
        return f"topic {rule.access} {rule.topic}"
    # Not "topic": that would be for clients without a user name, and anybody may send one.
    topic = rule.topic.replace("{device}", "%u").replace("{client}", "%c")
    return f"pattern {rule.access} {topic}"


def configuration(place: Place) -> str:
    """The text of mosquitto.conf."""
    doors = "\n".join(_listener(place, door) for door in Door)
    user = f"user {place.user}\n" if place.user else ""
    return f"""# A broker for Muster. Made by `muster mqtt setup`; what it reads stands beside it.
# SIGHUP makes it read its certificates, {REVOKED} and the access lists anew.
per_listener_settings true
{user}
# What it keeps over a restart: sessions, what waits in them, and each device's directive.
persistence true
persistence_location {place.data}/
autosave_interval 60
persistent_client_expiration 14d

# As large as the largest sealed message ({PACKET_BYTES} bytes); more ends the connection.
max_packet_size {PACKET_BYTES}
max_inflight_messages {INFLIGHT_MESSAGES}
max_queued_messages {QUEUED_MESSAGES}
max_queued_bytes {QUEUED_BYTES}
max_keepalive {KEEPALIVE_SECONDS}
set_tcp_nodelay true
# Nobody may read $SYS.
sys_interval 0

log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
log_timestamp_format %Y-%m-%dT%H:%M:%S

{doors}"""


def _listener(place: Place, door: Door) -> str:
    where = f"{place.ports.of(door)} {place.address}".rstrip()
    shown = "\n".join(_SHOWN[door](place))
    return f"""\
{_WHO[door]}
listener {where}
certfile {place.folder / CERTIFICATE}
keyfile {place.folder / KEY}
tls_version tlsv1.2
acl_file {place.folder / acl_file(door)}
allow_zero_length_clientid false
max_qos 1
{shown}
"""


_WHO: Final = {
    Door.DEVICES: (
        "# Devices: their certificate names them. Their client ids are secrets, so that nobody takes over"
        "\n# another's session; not the names, which the strangers' listener could not keep for them."
    ),
    Door.CONTROLLERS: (
        "# Controllers: nobody else has a certificate of this authority. Let nobody else reach it."
    ),
    Door.STRANGERS: (
        "# Machines without a certificate, that want to join. It takes a token; what they say is sealed."
    ),
}


def _devices(place: Place) -> tuple[str, ...]:
    return (
        f"cafile {place.folder / DEVICE_AUTHORITY}",
        f"crlfile {place.folder / REVOKED}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        "max_topic_alias 10",
    )


def _controllers(place: Place) -> tuple[str, ...]:
    return (
        f"cafile {place.folder / BROKER_AUTHORITY}",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
        "max_topic_alias 10",
    )


def _strangers(_: Place) -> tuple[str, ...]:
    return ("allow_anonymous true", f"max_connections {STRANGERS}", "max_topic_alias 0")


_SHOWN: Final = {
    Door.DEVICES: _devices,
    Door.CONTROLLERS: _controllers,
    Door.STRANGERS: _strangers,
}
