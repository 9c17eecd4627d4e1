"""Stretches of time as people write them: ``90s``, ``5m``, ``1d12h``; and the simulation's clock."""

import re
from typing import Final

_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms])")
PATTERN: Final = r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[dhms]))+"
REMEDY: Final = "Write a time like 30s, 5m, 2h, 1d or 1d12h."


def seconds(text: str) -> float:
    """How long it is.

    Raises:
        ValueError: it is no such text.
    """
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is no time")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def worded(length: float) -> str:
    """The shortest way to write it, to the second: ``1d12h``."""
    left, words = round(length), []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(_UNITS[unit]))
        words += [f"{count}{unit}"] if count else []
    return "".join(words) or "0s"


def clock(at: float) -> str:
    """``2d 03:00:05``: days, hours, minutes and seconds since the beginning."""
    whole = int(at)
    days, rest = divmod(whole, 86_400)
    return f"{days}d {rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
