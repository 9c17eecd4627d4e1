"""Where a broker is: apart from what connects to it, which not everybody needs."""

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
