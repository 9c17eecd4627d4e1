"""The part of a file that a ``Range`` header asks for: RFC 9110, section 14."""

import re
from typing import Final

_ONE: Final = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")


def asked(header: str, length: int) -> range | None:
    """Places of the bytes that are asked for; None if they are all.

    A header that is none, asks for several parts, or for none that there is, counts as no header.
    """
    match = _ONE.fullmatch(header.strip())
    if match is None:
        return None
    first = int(match[1])
    last = min(int(match[2]), length - 1) if match[2] else length - 1
    return range(first, last + 1) if first <= last else None


def content_range(part: range, length: int) -> str:
    """What the answer's ``Content-Range`` says."""
    return f"bytes {part.start}-{part.stop - 1}/{length}"
