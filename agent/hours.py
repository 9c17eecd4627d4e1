"""Hours of a day as people write them in agent.toml: ``22:00-06:00``."""

import re
from typing import Final

from protos.documents import DAY_MINUTES, Window

_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")


def daily_window(text: str) -> Window | None:
    """The window that opens every day at the first time and closes at the second; None if it is none.

    The second may be of the next day; the same time twice is all day.
    """
    found = _HOURS.fullmatch(text)
    if found is None:
        return None
    start = 60 * int(found[1]) + int(found[2])
    end = DAY_MINUTES if found[3] is None else 60 * int(found[3]) + int(found[4])
    return Window(start_minute=start, minutes=(end - start) % DAY_MINUTES or DAY_MINUTES)
