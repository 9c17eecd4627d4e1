"""What is said between a benchmark and the process that plays its devices: a line of JSON each."""

from typing import Literal

import msgspec

from simulations.bench.invited import Member

Transport = Literal["mqtt", "grpc"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Who the devices are, and what they dial.

    Attributes:
        address: host:port that they dial.
        broker_ca: PEM; empty over gRPC.
    """

    transport: Transport
    address: str
    server_ca: bytes
    broker_ca: bytes = b""
    members: tuple[Member, ...]


class Connect(msgspec.Struct, frozen=True, tag=True):
    """The next so many connect and tell their facts, ``at_a_time`` of them at once."""

    devices: int
    at_a_time: int


class Hear(msgspec.Struct, frozen=True, tag=True):
    """All wait for a directive. It is answered twice: ``Ready``, and when all have theirs."""


class Report(msgspec.Struct, frozen=True, tag=True):
    """Each sends one window every ``every`` seconds, for ``rounds`` times, evenly spread."""

    every: float
    rounds: int


class Flood(msgspec.Struct, frozen=True, tag=True):
    """The first so many send one window each, as fast as they are taken, so many at a time."""

    devices: int
    at_a_time: int


Order = Connect | Hear | Report | Flood


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From here on it counts."""


class Connected(msgspec.Struct, frozen=True, tag=True):
    """How long it took. ``again``: dials that had to be repeated."""

    seconds: float
    again: int


class Told(msgspec.Struct, frozen=True, tag=True):
    """When each device had its directive: monotonic seconds, the same clock in all processes."""

    at: list[float]


class Reported(msgspec.Struct, frozen=True, tag=True):
    """What came of the windows.

    Attributes:
        seconds: from the first to the last answer.
        latencies: of each, from when it was due until the controller's answer.
        sent, received: bytes on the devices' connections meanwhile.
    """

    seconds: float
    latencies: list[float]
    sent: int
    received: int


Answer = Ready | Connected | Told | Reported
