"""What this device is in now: its local time, its battery, its link."""

import logging
from datetime import datetime

import psutil

from agent.install.gates import Battery, Circumstances
from agent.local_time import local_zone

log = logging.getLogger(__name__)


def read_circumstances(now: datetime, *, timezone: str, metered: bool) -> Circumstances:
    """The circumstances at ``now``; ``timezone`` and ``metered`` are what agent.toml says.

    The system's time zone is read anew every time: a device may travel.

    Raises:
        ConfigError: there is no such time zone.
    """
    return Circumstances(now.astimezone(local_zone(timezone)), read_battery(), metered)


def read_battery() -> Battery | None:
    """The battery; None if there is none, or the system can't say how it is charged."""
    try:
        found = psutil.sensors_battery()
    except (psutil.Error, OSError, ValueError, ArithmeticError) as error:
        # Drivers write these files, and odd ones write odd things: no reason to wait for ever.
        log.warning("battery.unreadable detail=%r", error)
        return None
    if found is None:
        return None
    return Battery(float(found.percent), on_mains=found.power_plugged is True)
