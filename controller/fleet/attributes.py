"""What selectors see of a device: its labels, its facts and its id, as one flat mapping of text.

A fact wins over a label of the same name, and labels that bear a fact's name are refused: nobody
can label a device into having more memory.
"""

import re
from collections.abc import Mapping
from typing import Final

from controller.errors import InvalidInput
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.selector import KEYWORDS
from protos.v1 import common_pb2

FACTS: Final = (
    "agent_version",
    "arch",
    "os",
    "memory_bytes",
    "disk_free_bytes",
    "cpu_count",
    "python",
    "timezone",
)
RUNTIMES: Final = "runtimes."
MAX_LABELS: Final = 64
MAX_RUNTIMES: Final = 16
MAX_FACT_CHARACTERS: Final = 128

_KEY: Final = re.compile(r"[a-z](?:[a-z0-9_.-]{0,61}[a-z0-9])?")
_VALUE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:/+@-]{0,61}[A-Za-z0-9])?")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def attributes(device: Device) -> Mapping[str, str]:
    """Its labels, facts and id."""
    return {**device.labels, **device.facts, "id": device.id}


def attribute(device: Device, name: str) -> str | None:
    """One of its attributes, or None: for many devices quicker than all of them."""
    if name == "id":
        return device.id
    return device.facts.get(name, device.labels.get(name))


def seen_by_selectors(device: Device) -> Mapping[str, str] | None:
    """Its attributes; None if it was revoked, for whom no selector of a rollout asks."""
    return attributes(device) if device.status is DeviceStatus.ACTIVE else None


def check_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """The same labels, if they may stand.

    Raises:
        InvalidInput: a key or value is not of the right form, or the key is a fact's or a keyword.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidInput(f"labels: {len(labels)} of them; {MAX_LABELS} at most")
    for key, value in labels.items():
        check_key(key)
        if not _VALUE.fullmatch(value):
            raise InvalidInput(
                f"label {key!r}: the value {value!r} must be 1 to 63 letters, digits or _.:/+@-, "
                "beginning and ending with a letter or digit"
            )
    return dict(labels)


def check_key(key: str) -> None:
    """Returns if a label may bear this name.

    Raises:
        InvalidInput: it may not.
    """
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            f"label {key!r}: the key must be 1 to 63 of a-z, 0-9 or _.-, beginning with a letter"
        )
    if key in KEYWORDS:
        raise InvalidInput(f"label {key!r}: the key is a word of the selector language")
    if key in {*FACTS, "id"} or key.startswith(RUNTIMES):
        raise InvalidInput(f"label {key!r}: the key is a fact that the device itself tells")


def flatten(facts: common_pb2.DeviceFacts) -> Mapping[str, str]:
    """What the device says of itself, as text; empty and zero facts are left out.

    What a device says is cut to a bounded size, and to printable ASCII.
    """
    flat = {name: str(getattr(facts, name)) for name in FACTS if getattr(facts, name)}
    runtimes = sorted(facts.runtimes.items())[:MAX_RUNTIMES]
    flat |= {f"{RUNTIMES}{_clean(name)}": version for name, version in runtimes if version}
    return {name: _clean(value) for name, value in flat.items()}


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("?", text[:MAX_FACT_CHARACTERS])
