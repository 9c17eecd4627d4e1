"""A device, as the controller knows it: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class DeviceStatus(StrEnum):
    """Whether the device may connect."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Device:
    """One enrolled machine. Times are Unix seconds; 0 is never.

    Attributes:
        public_key_pem: checks what the device signs.
        facts: arch, memory_bytes, runtimes.onnxruntime, …: flat, as text, for selectors.
        counter: the highest counter seen in a document that the device signed.
        last_seen: when it last said anything.
        connected: a controller holds a live link to it.
        connected_since: from when its present link counts as time online; 0 if none does.
        online_seconds: how long it was online before that, all its links together.
            ``presence.online_seconds`` adds the present one.
    """

    id: str
    enrolled_at: float
    public_key_pem: bytes
    certificate_serial: str
    certificate_expires: float
    status: DeviceStatus = DeviceStatus.ACTIVE
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    counter: int = 0
    last_seen: float = 0.0
    connected: bool = False
    connected_since: float = 0.0
    online_seconds: float = 0.0


class SlotState(msgspec.Struct, frozen=True):
    """What a device's signed reports say of one slot.

    Attributes:
        running: whether this version answers requests; else it is (or was) being tried.
        state: ``agent.install.machine.State`` by value.
        model_sha256: digest of the file that the runtime loaded.
        generation: of the directive that asked for what is being tried; of the report for what runs.
        counter: of the report that says so.
        soaked: the longest soak that it was asked for and has reached, in seconds of its own
            monotonic clock.
    """

    device: str
    model: str
    slot: str
    version: int
    running: bool
    state: str
    manifest_sha256: str
    model_sha256: str
    approvals: int
    generation: int
    counter: int
    reported_at: float
    code: str = ""
    detail: str = ""
    soaked: int = 0
