"""What a device waits for before it switches, as people write it and as directives say it."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from protos import documents


class Day(StrEnum):
    """A day of the week."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


class Window(BaseModel):
    """A maintenance window, in the device's own time zone.

    Attributes:
        days: on which it opens; none is every day.
        start: ``22:30``.
        minutes: how long it stays open, past midnight too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: tuple[Day, ...] = ()
    start: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)]


class Conditions(BaseModel):
    """What a device waits for; waiting is no failure.

    Attributes:
        windows: it switches in one of these only; none is any time.
        battery_percent: it installs only on mains or with so much charge.
        unmetered: it fetches only over a link that costs nothing by the byte.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    windows: Annotated[tuple[Window, ...], Field(max_length=16)] = ()
    battery_percent: Annotated[int, Field(ge=0, le=100)] = 0
    unmetered: bool = False


def signed(conditions: Conditions) -> documents.Conditions:
    """The same, as a directive says it."""
    days = list(Day)
    return documents.Conditions(
        windows=tuple(
            documents.Window(
                days=tuple(days.index(day) for day in one.days),
                start_minute=60 * int(one.start[:2]) + int(one.start[3:]),
                minutes=one.minutes,
            )
            for one in conditions.windows
        ),
        battery_percent=conditions.battery_percent,
        unmetered=conditions.unmetered,
    )
