"""Lengths of time as people write them: ``90``, ``"30m"``, ``"1h30m"``, ``"7d"``."""

import re
from typing import Final

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([wdhms])")
PATTERN: Final = r"^([0-9]{1,9}(\.[0-9]{1,6})?[wdhms])+$"
"""What a duration that is text looks like."""

EXAMPLES: Final = "seconds, or text such as 30m, 24h, 7d or 1h30m"


def seconds_of(value: object) -> float:
    """The seconds that a number or a text means.

    Raises:
        ValueError: it is neither a number nor such a text.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not re.match(PATTERN, value):
        raise ValueError(f"must be {EXAMPLES}")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))


def written(seconds: float) -> str:
    """``seconds`` as text that ``seconds_of`` reads: ``1h30m``; whole seconds, at least."""
    left = round(seconds)
    parts = []
    for unit, length in _UNITS.items():
        if unit == "w":
            continue  # people count in days
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
