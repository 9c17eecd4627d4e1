"""One-time join tokens: what they are. Minting and checking are pure; the store keeps hashes."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token as the controller keeps it: never the secret itself.

    Attributes:
        secret_sha256: of the secret's bytes.
        labels: what a device that joins with it is labelled.
        used_by: the device's id; empty while unused.
    """

    id: str
    secret_sha256: str
    created_at: float
    expires_at: float
    created_by: str
    labels: Mapping[str, str] = field(default_factory=dict)
    used_at: float = 0.0
    used_by: str = ""
