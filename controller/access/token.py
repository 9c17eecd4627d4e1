"""Operators' bearer tokens: what they look like and what is kept of them."""

import base64
import hashlib
import re
from typing import Final

PREFIX: Final = "muster_op_"
"""Lets people and secret scanners tell what they have found."""

ENTROPY_BYTES: Final = 32

_TOKEN: Final = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


def mint(entropy: bytes) -> str:
    """The token made of ``ENTROPY_BYTES`` random bytes.

    Raises:
        ValueError: too few bytes.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"{len(entropy)} bytes; {ENTROPY_BYTES} are needed")
    return PREFIX + base64.urlsafe_b64encode(entropy).rstrip(b"=").decode()


def well_formed(token: str) -> bool:
    """Whether this can be a token at all."""
    return _TOKEN.fullmatch(token) is not None


def token_sha256(token: str) -> str:
    """What the store keeps. The token is random and long: a plain hash can't be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()
