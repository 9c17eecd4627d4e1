"""MQTT topics, and who may do what with them: the broker's access rules are made from this table.

A device's certificate names it (common name), and with it what it may read and write. Controllers
show a certificate with ``CONTROLLER``, which no device can be called. Who has no certificate yet is
known by the client id that it has made up.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ROOT: Final = "muster/v1"

CONTROLLER: Final = "muster.controller"
"""Common name of controllers' certificates for the broker: ids of devices are without a dot."""

_ID: Final = r"[A-Za-z0-9._-]{1,128}"
_TOPIC: Final = re.compile(
    rf"{ROOT}/(?:"
    rf"devices/(?P<device>{_ID})/(?P<leaf>desired|down|call|death)"
    rf"|controllers/(?P<controller>{_ID})/(?P<state>state)"
    rf"|controllers/(?P<to>{_ID})/in/(?P<sender>{_ID})"
    rf"|enrolment/(?P<client>{_ID})/(?P<step>ask|answer)"
    r")"
)


class Leaf(StrEnum):
    """What kind of message a topic carries."""

    DESIRED = "desired"
    DOWN = "down"
    CALL = "call"
    DEATH = "death"
    STATE = "state"
    IN = "in"
    ASK = "ask"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Address:
    """What a topic says: the kind of message, and whose it is.

    Attributes:
        whose: the device's id; of a state the controller's, of enrolment the client's.
        controller: whose inbox it is, and else empty.
    """

    leaf: Leaf
    whose: str
    controller: str = ""


def desired(device: str) -> str:
    """Retained: the newest directive for the device, signed by the director."""
    return f"{ROOT}/devices/{device}/desired"


def down(device: str) -> str:
    """Answers and commands to the device."""
    return f"{ROOT}/devices/{device}/down"


def call(device: str) -> str:
    """What the device asks of any controller."""
    return f"{ROOT}/devices/{device}/call"


def death(device: str) -> str:
    """The device's last will."""
    return f"{ROOT}/devices/{device}/death"


def state(controller: str) -> str:
    """Retained while the controller is there: who it is, and what to seal messages with."""
    return f"{ROOT}/controllers/{controller}/state"


def inbox(controller: str, device: str) -> str:
    """What the device says to that one controller: its birth, and what it publishes."""
    return f"{ROOT}/controllers/{controller}/in/{device}"


def ask(client: str) -> str:
    """What a machine asks that has no good certificate: to join, or a new one."""
    return f"{ROOT}/enrolment/{client}/ask"


def answer(client: str) -> str:
    """The answer to ``ask``."""
    return f"{ROOT}/enrolment/{client}/answer"


STATES: Final = state("+")
"""Filter: every controller's state."""
DEATHS: Final = death("+")
"""Filter: every device's last will."""
CALLS: Final = call("+")
"""Filter: every device's calls."""
ASKS: Final = ask("+")
"""Filter: everything that machines without a certificate ask."""


def shared(group: str, topic_filter: str) -> str:
    """The filter by which each message goes to one member of the group, whose name is a secret."""
    return f"$share/{group}/{topic_filter}"


def address(topic: str) -> Address | None:
    """What the topic says; None if it is none of ours."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        return None
    found = match.groupdict()
    if found["device"]:
        return Address(Leaf(found["leaf"]), found["device"])
    if found["controller"]:
        return Address(Leaf.STATE, found["controller"])
    if found["sender"]:
        return Address(Leaf.IN, found["sender"], controller=found["to"])
    return Address(Leaf(found["step"]), found["client"])


class Party(StrEnum):
    """Who connects to the broker."""

    DEVICE = "device"
    CONTROLLER = "controller"
    STRANGER = "stranger"  # has no certificate: wants to join, or comes back too late


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a party may do; everything else is denied.

    ``topic`` is a filter; ``{device}`` in it is the common name of the certificate that the client has
    shown, ``{client}`` the client id.
    """

    party: Party
    access: str  # "read" or "write"
    topic: str


RULES: Final = (
    Rule(Party.DEVICE, "read", desired("{device}")),
    Rule(Party.DEVICE, "read", down("{device}")),
    Rule(Party.DEVICE, "read", STATES),
    Rule(Party.DEVICE, "write", call("{device}")),
    Rule(Party.DEVICE, "write", death("{device}")),
    Rule(Party.DEVICE, "write", inbox("+", "{device}")),
    Rule(Party.CONTROLLER, "write", desired("+")),
    Rule(Party.CONTROLLER, "write", down("+")),
    Rule(Party.CONTROLLER, "write", STATES),
    Rule(Party.CONTROLLER, "write", answer("+")),
    Rule(Party.CONTROLLER, "read", call("+")),
    Rule(Party.CONTROLLER, "read", DEATHS),
    Rule(Party.CONTROLLER, "read", inbox("+", "+")),
    Rule(Party.CONTROLLER, "read", ask("+")),
    Rule(Party.STRANGER, "read", STATES),
    Rule(Party.STRANGER, "read", answer("{client}")),
    Rule(Party.STRANGER, "write", ask("{client}")),
)
