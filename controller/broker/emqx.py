"""EMQX (5.9 and later): its acl.conf, out of ``protos.mqtt.topics.RULES``.

A rule counts for one listener, so that a name means something only where it is proven. EMQX asks its
rules when somebody subscribes or writes, and none but controllers may leave a message behind.
"""

from typing import Final

from controller.broker.listeners import PACKET_BYTES, PARTIES, STRANGERS, Door, Ports
from protos.limits import KIB
from protos.mqtt.topics import CONTROLLER, RULES, Party, Rule

_LISTENERS: Final = """\
authorization {{
  no_match = deny
  deny_action = ignore
  sources = [{{type = file, enable = true, path = "etc/acl.conf"}}]
}}
mqtt.max_packet_size = {packet}KB
mqtt.max_qos_allowed = 1
# The name in the certificate is the user name, where a certificate is asked for.
zones.named.mqtt.peer_cert_as_username = cn
listeners.ssl.devices {{
  bind = {ports.devices}
  zone = named
  ssl_options {{
    certfile = "etc/certs/broker.crt"
    keyfile = "etc/certs/broker.key"
    cacertfile = "etc/certs/device-ca.crt"
    verify = verify_peer
    fail_if_no_peer_cert = true
    versions = ["tlsv1.3", "tlsv1.2"]
  }}
}}
listeners.ssl.controllers {{
  bind = {ports.controllers}
  zone = named
  ssl_options {{
    certfile = "etc/certs/broker.crt"
    keyfile = "etc/certs/broker.key"
    cacertfile = "etc/certs/broker-ca.crt"
    verify = verify_peer
    fail_if_no_peer_cert = true
    versions = ["tlsv1.3", "tlsv1.2"]
  }}
}}
listeners.ssl.strangers {{
  bind = {ports.strangers}
  max_connections = {strangers}
  ssl_options {{
    certfile = "etc/certs/broker.crt"
    keyfile = "etc/certs/broker.key"
    verify = verify_none
    versions = ["tlsv1.3", "tlsv1.2"]
  }}
}}
# EMQX listens on these, too, unless it is told not to.
listeners.tcp.default.enable = false
listeners.ws.default.enable = false
listeners.ssl.default.enable = false
listeners.wss.default.enable = false
"""


def access_rules() -> str:
    """The text of acl.conf: what is not listed is denied."""
    lines = ["%% Made by `muster mqtt acl --for emqx`."]
    for door, party in PARTIES.items():
        lines.append(f"%% {door}")
        lines += [_line(door, rule) for rule in RULES if rule.party is party]
    return "\n".join([*lines, "{deny, all}."]) + "\n"


def settings(ports: Ports) -> str:
    """What emqx.conf needs beside its own; the files in it are those of ``muster mqtt setup``."""
    return _LISTENERS.format(packet=PACKET_BYTES // KIB, ports=ports, strangers=STRANGERS)


def _line(door: Door, rule: Rule) -> str:
    who = f'{{listener, "ssl:{door}"}}'
    if rule.party is Party.CONTROLLER:
        who = f"{{'and', [{who}, {{username, \"{CONTROLLER}\"}}]}}"
    topic = rule.topic.replace("{device}", "${username}").replace("{client}", "${clientid}")
    return f'{{allow, {who}, {_action(rule)}, ["{topic}"]}}.'


def _action(rule: Rule) -> str:
    if rule.access == "read":
        return "subscribe"
    return "publish" if rule.party is Party.CONTROLLER else "{publish, [{retain, false}]}"
