"""What devices told, as stored: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """One window of one device. ``payload`` is the serialised ``muster.v1.Window``."""

    device: str
    spool: str
    sequence: int
    model: str
    version: int
    profile_sha256: str
    window_id: str
    started_ms: int
    ended_ms: int
    rows: int
    verdict: int  # muster.v1.Verdict
    payload: bytes
    requests: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class WindowHead:
    """What a window comes to, without what was counted in it."""

    device: str
    model: str
    version: int
    ended_ms: int
    verdict: int  # muster.v1.Verdict
    requests: int
    failed: int
    refused: int


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of one device."""

    device: str
    spool: str
    sequence: int
    recorded_ms: int
    name: str
    severity: str
    model: str
    version: int
    code: str
    detail: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredResources:
    """One reading of a device's resource use. ``payload`` is the serialised message."""

    device: str
    spool: str
    sequence: int
    recorded_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Rejections:
    """What the audit chain has not been told of yet: bad records of one device, of one kind.

    Attributes:
        action: of the audit records, such as "report.replay".
        audited_ms: when the chain was last told; Unix time.
        untold: how many records came since.
    """

    device: str
    action: str
    audited_ms: int
    untold: int = 0


class StoredReport(msgspec.Struct, frozen=True):
    """One signed report, kept as evidence."""

    device: str
    counter: int
    generation: int
    reported_at: int
    received_at: float
    envelope: bytes
