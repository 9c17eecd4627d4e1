"""Digests as file names: checked before they touch a path."""

import re
from typing import Final

from agent.errors import MalformedDocument

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_PARTIAL: Final = re.compile(r"\.([0-9a-f]{64})\.part")


def checked(sha256: str) -> str:
    """The digest.

    Raises:
        MalformedDocument: it is not lowercase hex of a SHA-256.
    """
    if not _SHA256.fullmatch(sha256):
        raise MalformedDocument(f"{sha256[:80]!r} is not a SHA-256 in lowercase hex")
    return sha256


def partial_name(sha256: str) -> str:
    """What a blob is called until it is complete."""
    return f".{sha256}.part"


def digest_of(name: str) -> str | None:
    """The digest that a file of this name belongs to; None for a name of somebody else."""
    if _SHA256.fullmatch(name):
        return name
    match = _PARTIAL.fullmatch(name)
    return match[1] if match else None
