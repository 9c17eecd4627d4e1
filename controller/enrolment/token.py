"""One-time join tokens: what they are. Minting and checking are pure; the store keeps hashes."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from controller.errors import InvalidInput, TokenExpired, TokenUnknown, TokenUsed
from controller.fleet.attributes import check_labels

SECRET_BYTES: Final = 32
ID_BYTES: Final = 6
ENTROPY_BYTES: Final = ID_BYTES + SECRET_BYTES
MAX_LIFETIME_SECONDS: Final = 365 * 86_400.0


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


def mint(
    entropy: bytes,
    created_by: str,
    now: float,
    lifetime: float,
    labels: Mapping[str, str] | None = None,
) -> tuple[JoinToken, str]:
    """A fresh token, and its secret, which is kept nowhere.

    Args:
        entropy: ``ENTROPY_BYTES`` bytes from the system's random source.
        created_by: the operator's name.
        now: Unix seconds, as everywhere here.
        lifetime: seconds for which it may be used.
        labels: what a device that joins with it is labelled.

    Raises:
        InvalidInput: the lifetime or a label can't be.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise InvalidInput(f"entropy: {len(entropy)} bytes; {ENTROPY_BYTES} are needed")
    if not 0 < lifetime <= MAX_LIFETIME_SECONDS:
        raise InvalidInput(
            f"lifetime: {lifetime:g} seconds; above 0, and {MAX_LIFETIME_SECONDS:g} at most"
        )
    chosen = check_labels(labels or {})
    secret = base64.urlsafe_b64encode(entropy[ID_BYTES:]).rstrip(b"=").decode()
    token = JoinToken(
        id=entropy[:ID_BYTES].hex(),
        secret_sha256=_digest(secret),
        created_at=now,
        expires_at=now + lifetime,
        created_by=created_by,
        labels=chosen,
    )
    return token, secret


def authenticate(token: JoinToken | None, secret: str) -> JoinToken:
    """The token, if that is its secret. Takes equally long whatever the secret is.

    Raises:
        TokenUnknown: no such token, or another secret: which of the two is not told.
    """
    expected = _digest("") if token is None else token.secret_sha256
    matches = hmac.compare_digest(_digest(secret), expected)
    if token is None or not matches:
        raise TokenUnknown("no such join token, or its secret is wrong")
    return token


def check_usable(token: JoinToken, now: float) -> None:
    """Returns if the token may still make a device.

    Raises:
        TokenUsed: it has made one.
        TokenExpired: its time is over.
    """
    if token.used_by:
        raise TokenUsed(f"the token was used at {_time(token.used_at)} by {token.used_by!r}")
    if now >= token.expires_at:
        raise TokenExpired(f"the token expired at {_time(token.expires_at)}")


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
