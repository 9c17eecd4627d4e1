"""What the API answers with about devices, operators and the audit. Times are Unix seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field

from controller.access.operator import Operator
from controller.audit import Record
from controller.enrolment.token import JoinToken
from controller.fleet.actions import DeviceView
from controller.fleet.device import SlotState
from controller.rollout.rollout import Wanted
from controller.telemetry.record import StoredEvent, StoredResources
from protos.v1 import telemetry_pb2

Time = Annotated[float, Field(description="Unix seconds; 0 is never")]


@dataclass(frozen=True, slots=True)
class SlotAnswer:
    """What the device's signed reports say of one slot."""

    model: str
    slot: str
    version: int
    running: Annotated[bool, Field(description="this version answers requests")]
    state: Annotated[str, Field(description="idle, fetching, self-test, committed, failed, …")]
    manifest_sha256: str
    model_sha256: Annotated[str, Field(description="of the file that the runtime loaded")]
    approvals: Annotated[int, Field(description="signatures that the device itself verified")]
    generation: Annotated[int, Field(description="of the directive that the device acts on")]
    soaked: Annotated[int, Field(description="seconds that it was asked to answer for, and has")]
    reported_at: Time
    code: str
    detail: str

    @classmethod
    def of(cls, slot: SlotState) -> Self:
        """As the store has it."""
        return cls(
            slot.model,
            slot.slot,
            slot.version,
            slot.running,
            slot.state,
            slot.manifest_sha256,
            slot.model_sha256,
            slot.approvals,
            slot.generation,
            slot.soaked,
            slot.reported_at,
            slot.code,
            slot.detail,
        )


@dataclass(frozen=True, slots=True)
class WantedAnswer:
    """What one slot of a device shall run, and which rollout says so; empty is none any more."""

    model: str
    slot: str
    version: int
    rollout: str
    assigned_at: Time

    @classmethod
    def of(cls, row: Wanted) -> Self:
        """As the store has it."""
        return cls(row.model, row.slot, row.version, row.rollout, row.assigned_at)


@dataclass(frozen=True, slots=True)
class ResourcesAnswer:
    """What an agent uses of its device, its helper processes included."""

    recorded_at: Time
    cpu_share: Annotated[float, Field(description="of one core, over the interval")]
    interval_seconds: float
    resident_bytes: int
    disk_free_bytes: int
    spool_records: Annotated[int, Field(description="records that wait to be sent")]
    uptime_seconds: float

    @classmethod
    def of(cls, stored: StoredResources) -> Self:
        """As the device has told it."""
        told = telemetry_pb2.Resources.FromString(stored.payload)
        return cls(
            stored.recorded_ms / 1000,
            told.cpu_share,
            told.interval_seconds,
            told.resident_bytes,
            told.disk_free_bytes,
            told.spool_records,
            told.uptime_seconds,
        )


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """One device. Lists leave out ``generation`` (of its newest directive), ``resources``, ``dropped``."""

    id: str
    presence: Annotated[str, Field(description="online, stale or offline")]
    status: Annotated[str, Field(description="active or revoked")]
    labels: Mapping[str, str]
    facts: Mapping[str, str]
    enrolled_at: Time
    last_seen: Time
    certificate_expires: Time
    generation: int
    slots: tuple[SlotAnswer, ...]
    wanted: tuple[WantedAnswer, ...]
    resources: ResourcesAnswer | None
    dropped: Annotated[
        Mapping[str, int], Field(description="by kind, records that the device had no room to keep")
    ]

    @classmethod
    def of(cls, view: DeviceView) -> Self:
        """What the fleet's actions tell."""
        device = view.device
        return cls(
            device.id,
            view.presence.value,
            device.status.value,
            dict(device.labels),
            dict(device.facts),
            device.enrolled_at,
            device.last_seen,
            device.certificate_expires,
            view.generation,
            tuple(SlotAnswer.of(slot) for slot in view.slots),
            tuple(WantedAnswer.of(row) for row in view.wanted),
            None if view.resources is None else ResourcesAnswer.of(view.resources),
            dict(view.dropped),
        )


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A join token; never its secret."""

    id: str
    state: Annotated[str, Field(description="usable, used or expired")]
    created_at: Time
    created_by: str
    expires_at: Time
    labels: Mapping[str, str]
    used_at: Time
    used_by: Annotated[str, Field(description="the device that it has made")]

    @classmethod
    def of(cls, token: JoinToken, now: float) -> Self:
        """As the store has it."""
        unused = "expired" if now >= token.expires_at else "usable"
        return cls(
            token.id,
            "used" if token.used_by else unused,
            token.created_at,
            token.created_by,
            token.expires_at,
            dict(token.labels),
            token.used_at,
            token.used_by,
        )


@dataclass(frozen=True, slots=True)
class OperatorAnswer:
    """Somebody with a token."""

    name: str
    role: Annotated[str, Field(description="viewer, operator, approver or admin")]
    created_at: Time
    revoked_at: Time

    @classmethod
    def of(cls, operator: Operator) -> Self:
        """As the store has it."""
        return cls(
            operator.name, operator.role.name.lower(), operator.created_at, operator.revoked_at
        )


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """One link of the audit chain."""

    sequence: int
    at_ms: Annotated[int, Field(description="Unix milliseconds")]
    actor: str
    action: str
    subject: str
    detail: Mapping[str, str]
    previous: str
    digest: str

    @classmethod
    def of(cls, record: Record) -> Self:
        """As the store has it."""
        entry = record.entry
        return cls(
            record.sequence,
            record.at,
            entry.actor,
            entry.action,
            entry.subject,
            dict(entry.detail),
            record.previous,
            record.digest,
        )


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """Something that happened on a device."""

    device: str
    recorded_ms: Annotated[int, Field(description="Unix milliseconds by the device's clock")]
    name: str
    severity: str
    model: str
    version: int
    code: str
    detail: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, event: StoredEvent) -> Self:
        """As the store has it."""
        return cls(
            event.device,
            event.recorded_ms,
            event.name,
            event.severity,
            event.model,
            event.version,
            event.code,
            event.detail,
            dict(event.fields),
        )
