"""What a device has said last of whether it would train, and the blobs that a run names."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from controller.fleet.device import Device

MOST_MODELS: Final = 64
"""That a device may tell of: more than any runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReadiness:
    """Of one model on one device.

    Attributes:
        manifest_sha256: of the version that it runs with a train step.
        eligible: it would train now.
        reason: why not: a code; empty if it would.
        examples: in the part that is trained on; 0 if it did not tell.
        held_out: in the part that is never trained on; 0 if it did not tell.
        told_ms: when it said so, Unix milliseconds.
    """

    device: str
    model: str
    version: int
    manifest_sha256: str
    eligible: bool
    reason: str = ""
    examples: int = 0
    held_out: int = 0
    told_ms: int = 0


@dataclass(frozen=True, slots=True)
class RunBlob:
    """A blob that a run has stored: arrays, or its coordinator's state.

    Attributes:
        put_ms: when it was stored last, Unix milliseconds.
    """

    run: str
    sha256: str
    put_ms: int


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """``exchange.Checkpoint``, with its state as a blob, too."""

    step: int
    round: int
    arrays_sha256: str
    state_sha256: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What has changed of devices, and of what they have said of one model.

    Attributes:
        ids: of all that have changed; one that is in neither of the others is none of the model's.
        devices: those of them that have said anything of the model.
        told: what they have said.
        revision: to ask from the next time.
    """

    ids: Collection[str]
    devices: Sequence[Device]
    told: Sequence[DeviceReadiness]
    revision: int


@dataclass(frozen=True, slots=True)
class Orders:
    """Devices whose task was posted or taken back.

    Attributes:
        revision: to ask from the next time.
    """

    devices: tuple[str, ...]
    revision: int
