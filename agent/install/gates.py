"""What an install may have to wait for: its directive's conditions, and the device as it is.

Every gate says why it is shut, or None. Where they stand:

* The link before a file is fetched for a version that does not run yet. What a slot answers with is
  brought back over any link: a device without its model costs more.
* The battery before the self-test, which is the most work, and again before the switch, for which the
  device may have waited for days. A restart of what waits is not counted: a device that goes off
  while its battery is low does not go off by the version's doing.
* The window before the switch only: what comes before disturbs nobody. The switch itself asks again,
  for it may have been put off until the window had closed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.errors import AgentError, Temporary
from agent.install.machine import State
from agent.install.record import Install
from agent.install.windows import opening_words, opens, wait_words

INSTALLED: Final = frozenset({State.PROBATION, State.COMMITTED, State.REVERTING})
"""Where the version answers, or did."""


class OutsideWindow(Temporary):
    """The version waits for a maintenance window.

    Attributes:
        opens_at: when the next one opens, in Unix seconds.
    """

    code = "outside-window"
    remedy = "The device switches by itself once a window is open, by its own clock and time zone."

    def __init__(self, detail: str, opens_at: float = 0.0) -> None:
        super().__init__(detail)
        self.opens_at = opens_at


class BatteryLow(Temporary):
    """The device runs on its battery, with less charge than is asked for."""

    code = "battery-low"
    remedy = "Charge the device or connect it to mains; the agent goes on by itself."


class MeteredLink(Temporary):
    """The files may not be fetched over a link that costs by the byte."""

    code = "metered-link"
    remedy = (
        "If its link is not metered (any more), say so: `[device] metered = false` in agent.toml."
    )


@dataclass(frozen=True, slots=True)
class Battery:
    """How it is charged."""

    percent: float
    on_mains: bool


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a device is in at this moment.

    Attributes:
        now: by its own clock, in its own time zone.
        battery: None if it has none.
        metered: its link costs by the byte.
    """

    now: datetime
    battery: Battery | None = None
    metered: bool = False


Gate = Callable[[Install, Circumstances], AgentError | None]


def shadow_gate(install: Install) -> str:
    """Why the install need not run in the champion's shadow (any longer)."""
    return f"no shadow asked for {install.model}/{install.version}"


def link_gate(install: Install, found: Circumstances) -> MeteredLink | None:
    """Whether files may be fetched."""
    if install.state in INSTALLED or not (install.conditions.unmetered and found.metered):
        return None
    return MeteredLink("an unmetered link is asked for, and this device's is metered")


def battery_gate(install: Install, found: Circumstances) -> BatteryLow | None:
    """Whether the device has the power to go on; one without a battery has."""
    asked, battery = install.conditions.battery_percent, found.battery
    if battery is None or battery.on_mains or battery.percent >= asked:
        return None
    return BatteryLow(f"charged to {battery.percent:.0f} %; {asked} % or mains is asked for")


def window_gate(install: Install, found: Circumstances) -> OutsideWindow | None:
    """Whether the switch may be made now."""
    opening = opens(install.conditions.windows, found.now)
    if opening is None:
        return None
    return OutsideWindow(opening_words(opening), opening.timestamp())


def switch_gate(install: Install, found: Circumstances) -> AgentError | None:
    """Whether the switch may be made now; the window speaks first: it is the longer wait."""
    return window_gate(install, found) or battery_gate(install, found)


def detail_of(install: Install, now: float) -> str:
    """The install's detail at ``now`` (Unix seconds): how long it waits for its window is of that moment."""
    if install.code != OutsideWindow.code or install.not_before <= now:
        return install.detail
    return f"{install.detail}, {wait_words(install.not_before - now)}"


def plain(now: datetime) -> Circumstances:
    """On mains, over a link that costs nothing, in UTC."""
    return Circumstances(now)
