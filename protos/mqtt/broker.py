"""Where a broker is, and how we come and go: apart from what connects, which not everybody needs."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and what to show it.

    Attributes:
        address: host:port.
        ca_pem: who has issued its certificate.
        certificate_pem, key_pem: ours; empty where it asks for none.
    """

    address: str
    ca_pem: bytes
    certificate_pem: bytes = b""
    key_pem: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says when we are gone, ``delay`` seconds later and unless we are back."""

    topic: str
    payload: bytes
    retain: bool = False
    delay: int = 0


@dataclass(frozen=True, slots=True)
class Habits:
    """How we connect.

    Attributes:
        keepalive: seconds; a dead path is noticed by the broker after one and a half of these, by us
            after a little more than two.
        remember: seconds for which the broker keeps subscriptions and messages for us when we are
            gone; 0 begins afresh.
    """

    keepalive: int = 60
    remember: int = 0
