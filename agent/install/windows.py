"""When a maintenance window is open, by a device's own wall clock.

1. A window opens and closes by the wall clock, whatever daylight saving does in between: one from
   22:00 for eight hours closes at 06:00.
2. A time that comes twice, as clocks go back, is the first of the two. A time that never comes, as
   they go forward, is the moment as much later.
3. A window that the clock skips whole stays open for its length all the same: else a weekly one would
   be missed for a week.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from protos.documents import DAY_MINUTES, WEEK_MINUTES, Window

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_AHEAD: Final = 8
"""Days in which every window opens once: a week, and one that the clock may skip."""


def opens(windows: Sequence[Window], now: datetime) -> datetime | None:
    """When the next window opens, in the zone of ``now``; None if one is open, or there are none.

    ``now`` is the device's local time, with its zone. A window that can never open is looked at again
    in a week.
    """
    if not windows:
        return None
    instant = now.astimezone(UTC)
    ahead = [instant + timedelta(minutes=WEEK_MINUTES)]
    for opening, closing in (one for window in windows for one in _occurrences(window, now)):
        if opening <= instant < closing:
            return None
        if opening > instant:
            ahead.append(opening)
    return min(ahead).astimezone(now.tzinfo)


def _occurrences(window: Window, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The (opening, closing) times that may hold ``now``, and the next ones; in UTC."""
    minutes = min(max(window.minutes, 1), WEEK_MINUTES)
    today, behind = now.date(), minutes // DAY_MINUTES + 2
    for offset in range(-behind, _AHEAD + 1):
        try:
            day = today + timedelta(days=offset)
            if window.days and day.weekday() not in window.days:
                continue
            opening = _instant(day, window.start_minute, now)
            closing = _instant(day, window.start_minute + minutes, now)
        except OverflowError:  # at the end of the calendar
            continue
        if closing <= opening:
            closing = opening + timedelta(minutes=minutes)
        yield opening, closing


def _instant(day: date, minute: int, now: datetime) -> datetime:
    """When so many minutes of the wall clock have passed on that day."""
    wall = datetime.combine(day, time(), tzinfo=now.tzinfo) + timedelta(minutes=minute)
    return wall.astimezone(UTC)  # fold is 0: the earlier offset decides


def opening_words(opening: datetime) -> str:
    """``opens on Saturday 22:00 Europe/Berlin``."""
    return f"opens on {clock_words(opening)}"


def clock_words(moment: datetime) -> str:
    """``Saturday 22:00 Europe/Berlin``."""
    zone = getattr(moment.tzinfo, "key", None) or moment.tzname() or "local time"
    return f"{_DAYS[moment.weekday()]} {moment:%H:%M} {zone}"


def wait_words(seconds: float) -> str:
    """``in 3 h 12 min``."""
    minutes = math.ceil(seconds / 60)
    days, rest = divmod(minutes, DAY_MINUTES)
    hours, minutes = divmod(rest, 60)
    if days:
        return f"in {days} d {hours} h"
    return f"in {hours} h {minutes} min" if hours else f"in {max(minutes, 0)} min"
