"""Whether a device can be reached now."""

from enum import StrEnum
from typing import Final

from controller.fleet.device import Device

STALE_AFTER_SECONDS: Final = 300.0
"""Devices say something every minute or so; a link that is silent for this long may be dead."""


class Presence(StrEnum):
    """Can it be reached?"""

    ONLINE = "online"  # a live link, and it was heard lately
    STALE = "stale"  # a link that nothing has come over for a while
    OFFLINE = "offline"  # no link


def presence(device: Device, now: float) -> Presence:
    """Its presence at ``now`` (Unix seconds)."""
    if not device.connected:
        return Presence.OFFLINE
    silent = now - device.last_seen
    return Presence.STALE if silent > STALE_AFTER_SECONDS else Presence.ONLINE
