"""Which devices come first, and which are the control group: drawn by a salted hash.

Rules:

1. The same rollout and devices give the same order, on every controller and after every restart.
2. The rollout's id is the salt: no device is always the canary.
3. Each stratum (combination of values of ``stratify_by``) is spread evenly over the order, so every
   first part of it, and the control group at its end, has its share of each.
4. A longer first part holds every shorter one.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence


def order(
    salt: str, devices: Iterable[str], strata: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The devices in the order in which they are drawn; ``strata`` by device, if there are any."""
    return by_lot(salt, {device: lot(salt, device) for device in devices}, strata)


def by_lot(
    salt: str, drawn: Mapping[str, int], strata: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The same, of whoever has kept the ``lot`` of each device."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for device in drawn:
        groups.setdefault(strata.get(device, ()), []).append(device)
    placed = []
    for stratum, members in groups.items():
        # Where in its step a stratum stands is drawn, too: else all small strata came at once.
        shift = lot(salt, "\0".join(stratum)) / 2**64
        members.sort(key=drawn.__getitem__)
        placed += [((at + shift) / len(members), drawn[one], one) for at, one in enumerate(members)]
    placed.sort()
    return tuple(device for _, _, device in placed)


def control_group(ordered: Sequence[str], percent: float) -> tuple[str, ...]:
    """The end of the order; never so many that no device is left, and none of ``percent`` 0."""
    size = min(math.ceil(len(ordered) * percent / 100), max(0, len(ordered) - 1))
    return tuple(ordered[len(ordered) - size :]) if size >= MINIMUM_CONTROL else ()


MINIMUM_CONTROL = 2
"""A control group of one device says nothing, and would only keep the version from it."""


def lot(salt: str, name: str) -> int:
    """What the device draws, or the stratum."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{name}".encode()).digest()[:8], "big")
