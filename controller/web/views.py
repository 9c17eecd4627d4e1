"""What the API answers with about devices, rollouts and operators. Times are Unix seconds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field

from controller.access.operator import Operator
from controller.audit import Record
from controller.enrolment.token import JoinToken
from controller.fleet.actions import DeviceView
from controller.fleet.device import SlotState
from controller.rollout.account import tally
from controller.rollout.explain import told
from controller.rollout.policy import Policy
from controller.rollout.progress import Progress
from controller.rollout.rollout import StageRecord, Wanted
from controller.rollout.staging import stages_of
from controller.rollout.standing import Outcome, Standing
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
class StandingAnswer:
    """One device in one rollout."""

    device: str
    outcome: Annotated[
        str,
        Field(
            description="ok, failed, unreachable, waiting, deferred or away; after an abort "
            "reverted or kept"
        ),
    ]
    doing: Annotated[str, Field(description="the install state that it last reported")]
    code: str
    detail: str
    stage: Annotated[int, Field(description="number of its stage, from 0")]
    soaks_until: Annotated[
        float,
        Field(description="Unix seconds, an estimate: a report ends a soak; 0 if it does not soak"),
    ]

    @classmethod
    def of(cls, standing: Standing) -> Self:
        """As the accounts have it."""
        return cls(
            standing.device,
            standing.outcome.value,
            standing.doing,
            standing.code,
            standing.detail,
            standing.stage,
            standing.soaks_until,
        )


@dataclass(frozen=True, slots=True)
class StageAnswer:
    """One stage of a rollout; ``size`` counts the devices of the stages before it, too."""

    name: str
    state: Annotated[str, Field(description="pending, held, open, breached, reverted or passed")]
    size: int
    ok: int
    failed: int
    unreachable: int
    released: int
    opened_at: Time
    passed_at: Time
    approved_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class RolloutAnswer:
    """One rollout and its accounts. ``because`` says all of it in sentences, the sum first."""

    id: str
    model: str
    version: int
    slot: str
    selector: str
    state: Annotated[
        str,
        Field(
            description="running, paused, rolling-back, succeeded, rolled-back, superseded or aborted"
        ),
    ]
    reason: Annotated[str, Field(description="of a state other than running")]
    fleet: Annotated[str, Field(description="the fleet file that asked for it, if one did")]
    policy: Policy
    created_at: Time
    created_by: str
    ended_at: Time
    ok: Annotated[int, Field(description="devices that have proven that they run it")]
    failed: int
    waiting: int
    deferred: Annotated[int, Field(description="devices that wait on purpose, as for a window")]
    unreachable: Annotated[int, Field(description="devices that were told, and are silent since")]
    away: Annotated[int, Field(description="devices that are offline and have not been told yet")]
    reverted: Annotated[int, Field(description="devices that an abort put back")]
    kept: Annotated[int, Field(description="devices that an abort left as they were")]
    stages: tuple[StageAnswer, ...]
    held: Annotated[tuple[str, ...], Field(description="devices of the control group")]
    standings: tuple[StandingAnswer, ...]
    incompatible: Annotated[
        Mapping[str, tuple[str, ...]], Field(description="devices that can't run it: the reasons")
    ]
    taken: Annotated[
        Mapping[str, str], Field(description="devices that a newer rollout has: its id")
    ]
    because: tuple[str, ...]

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """As the accounts have it."""
        rollout = progress.rollout
        return cls(
            rollout.id,
            rollout.model,
            rollout.version,
            rollout.slot,
            rollout.selector,
            rollout.state.value,
            rollout.reason,
            rollout.fleet,
            rollout.policy,
            rollout.created_at,
            rollout.created_by,
            rollout.ended_at,
            progress.count(Outcome.OK),
            progress.count(Outcome.FAILED),
            progress.count(Outcome.WAITING),
            progress.count(Outcome.DEFERRED),
            progress.count(Outcome.UNREACHABLE),
            progress.count(Outcome.AWAY),
            progress.count(Outcome.REVERTED),
            progress.count(Outcome.KEPT),
            tuple(_stages(progress)),
            tuple(sorted(progress.held)),
            tuple(StandingAnswer.of(one) for one in progress.standings),
            dict(progress.incompatible),
            dict(progress.taken),
            told(progress),
        )


def _stages(progress: Progress) -> Iterator[StageAnswer]:
    policy, records = progress.rollout.policy, progress.stages
    by_stage: dict[int, list[Standing]] = {}
    for standing in progress.standings:
        by_stage.setdefault(standing.stage, []).append(standing)
    control = len(records) > len(policy.stages)
    for number, stage in enumerate(stages_of(policy, control=control)):
        record = records[number] if number < len(records) else StageRecord("", number)
        stood = tally(by_stage.get(number, ()))
        yield StageAnswer(
            stage.name,
            record.state.value,
            record.size,
            stood.ok,
            stood.failed,
            stood.unreachable,
            stood.size,
            record.opened_at,
            record.passed_at,
            record.approved_by,
            record.reason,
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
