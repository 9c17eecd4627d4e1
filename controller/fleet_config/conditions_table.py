"""The tables of a fleet's file that say what devices wait for."""

from typing import Annotated

from pydantic import Field, PlainSerializer, model_validator

from controller.rollout.conditions import Day
from controller.rollout.policy import STAGED, refuse
from controller.toml_file.table import Duration, Many, Table


class WindowTable(Table):
    """A maintenance window, in the device's own time zone."""

    days: Annotated[
        Many[Annotated[Day, Field(strict=False)]], Field(examples=[["sat", "sun"]])
    ] = ()
    """On which it opens: `mon` to `sun`; none is every day."""

    start: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["22:30"])]
    """When it opens, by the device's clock on the wall."""

    duration: Annotated[
        Duration,
        Field(ge=60, le=7 * 86_400, serialization_alias="minutes", examples=["4h"]),
        PlainSerializer(lambda seconds: int(seconds // 60)),
    ]
    """How long it stays open, past midnight too; in whole minutes."""

    @model_validator(mode="after")
    def _whole(self) -> "WindowTable":
        if self.duration % 60:
            refuse(
                "window",
                [
                    (
                        ("duration",),
                        'must be whole minutes; write it like `duration = "4h"`',
                        ("duration",),
                    )
                ],
            )
        return self


class ConditionsTable(Table):
    """What a device waits for; waiting is no failure, and burns no attempt."""

    windows: Annotated[Many[WindowTable], Field(max_length=16)] = ()
    """The device switches in one of these only; none is any time."""

    battery_percent: Annotated[int, Field(ge=0, le=100)] = STAGED.conditions.battery_percent
    """The device installs only on mains, or with so much charge."""

    unmetered: bool = STAGED.conditions.unmetered
    """The device fetches only over a link that costs nothing by the byte."""
