"""Whether a device can be reached now, and for how long it could be in all."""

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


def online_seconds(device: Device, now: float) -> float:
    """How long the device has had a live link until ``now`` (Unix seconds), all its links together.

    A link counts while it is up, however silent: a device that hangs comes to its deadline, too.
    What was counted when the device was last heard stays, wherever the clock was set back to since;
    a clock that is set forward is time that has passed.
    """
    if not device.connected_since:
        return device.online_seconds
    heard = max(0.0, device.last_seen - device.connected_since)
    silent = max(0.0, now - device.last_seen)
    return device.online_seconds + heard + silent


def seen(device: Device, at: float, *, connected: bool, counter: int = 0) -> Device:
    """The device as it is once it was heard or lost at ``at`` (Unix seconds).

    A link that stays counts from where it began, unless the clock was set back meanwhile: what was
    counted until then is kept, and it counts anew from ``at``. ``counter`` is of what it signed.
    """
    if connected and device.connected_since and at >= device.last_seen:
        since, online = device.connected_since, device.online_seconds
    else:
        since, online = at if connected else 0.0, online_seconds(device, at)
    return Device(  # written out: every upload comes by here, and ``replace`` takes twice as long
        device.id,
        device.enrolled_at,
        device.public_key_pem,
        device.certificate_serial,
        device.certificate_expires,
        device.status,
        device.labels,
        device.facts,
        max(device.counter, counter),
        at,
        connected,
        since,
        online,
    )


def stays(before: Device, after: Device) -> bool:
    """Whether the device was only heard again, over a link that it has: time alone tells the rest."""
    link = before.connected_since, before.online_seconds
    return after.connected and link == (after.connected_since, after.online_seconds)
