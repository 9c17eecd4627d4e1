"""What the API answers with about fleets' files. Times are Unix seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field

from controller.fleet_config.alerts import AlertResult, AlertState
from controller.fleet_config.applied import AppliedFleet
from controller.fleet_config.estimate import StageTimes
from controller.fleet_config.plan import Action, FleetPlan, GoalPlan
from controller.web.views import Time


@dataclass(frozen=True, slots=True)
class SiteAnswer:
    """What a site has to download."""

    devices: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StagePlanAnswer:
    """One stage of a rollout that would start, if nothing goes wrong."""

    name: str
    devices: Annotated[tuple[str, ...], Field(description="in the order of their release")]
    planned: Annotated[int, Field(description="without those by which it grows for its proof")]
    begins_at: Time
    ends_at: Time
    approval: Annotated[bool, Field(description="somebody must approve before it begins")]

    @classmethod
    def of(cls, one: StageTimes) -> Self:
        """As the API shows it."""
        return cls(one.name, one.devices, one.planned, one.begins_at, one.ends_at, one.approval)


@dataclass(frozen=True, slots=True)
class GoalAnswer:
    """What would happen for one model of the fleet."""

    model: str
    version: int
    reference: Annotated[str, Field(description="as the file has it")]
    slot: str
    selector: str
    action: Action
    rollout: Annotated[str, Field(description="the one that is there, or that would start")]
    state: Annotated[str, Field(description="of the one that is there")]
    replaces: str
    differs: Annotated[tuple[str, ...], Field(description="version, selector, policy")]
    devices: tuple[str, ...]
    already: Annotated[tuple[str, ...], Field(description="run the version by now")]
    offline: tuple[str, ...]
    incompatible: Annotated[
        Mapping[str, tuple[str, ...]], Field(description="by reason, devices that can't run it")
    ]
    taken: Annotated[Mapping[str, int], Field(description="devices, by rollout of somebody else")]
    bundle_bytes: int
    sites: Mapping[str, SiteAnswer]
    stages: tuple[StagePlanAnswer, ...]
    ends_at: Time

    @classmethod
    def of(cls, one: GoalPlan) -> Self:
        """As the API shows it."""
        goal, reach = one.goal, one.reach
        return cls(
            model=goal.model,
            version=one.version,
            reference=goal.version,
            slot=goal.slot,
            selector=goal.selector,
            action=one.action,
            rollout=one.rollout,
            state=one.state,
            replaces=one.replaces,
            differs=one.differs,
            devices=reach.devices,
            already=reach.already,
            offline=reach.offline,
            incompatible=reach.incompatible,
            taken=reach.taken,
            bundle_bytes=one.bundle_bytes,
            sites={site: SiteAnswer(*moved) for site, moved in one.sites.items()},
            stages=tuple(map(StagePlanAnswer.of, one.times.stages)) if one.times else (),
            ends_at=one.times.ends_at if one.times else 0.0,
        )


@dataclass(frozen=True, slots=True)
class FleetPlanAnswer:
    """What applying a file would change; ``lines`` say all of it in sentences."""

    fleet: str
    changes: bool
    models: tuple[GoalAnswer, ...]
    leftover: Annotated[
        tuple[str, ...], Field(description="rollouts that the file no longer asks for")
    ]
    unmatched: Annotated[
        tuple[str, ...], Field(description="devices of the fleet that run none of its models")
    ]
    lines: tuple[str, ...]

    @classmethod
    def of(cls, plan: FleetPlan, lines: tuple[str, ...]) -> Self:
        """As the API shows it."""
        return cls(
            fleet=plan.fleet.name,
            changes=plan.changes,
            models=tuple(map(GoalAnswer.of, plan.goals)),
            leftover=tuple(one.id for one in plan.leftover),
            unmatched=plan.unmatched,
            lines=lines,
        )


@dataclass(frozen=True, slots=True)
class ApplyAnswer:
    """What applying a file has done."""

    fleet: str
    started: tuple[str, ...]
    ended: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetRow:
    """A fleet whose file was applied."""

    name: str
    sha256: Annotated[str, Field(description="of the file")]
    applied_at: Time
    applied_by: str

    @classmethod
    def of(cls, one: AppliedFleet) -> Self:
        """As the API shows it."""
        return cls(one.name, one.sha256, one.applied_at, one.applied_by)


@dataclass(frozen=True, slots=True)
class AlertAnswer:
    """One alert of the fleet, and what it was judged by."""

    name: str
    model: str
    severity: str
    when: str
    over_seconds: float
    state: AlertState
    values: Mapping[str, float]

    @classmethod
    def of(cls, one: AlertResult) -> Self:
        """As the API shows it."""
        alert = one.alert
        return cls(
            name=alert.name,
            model=alert.model,
            severity=alert.severity,
            when=alert.when,
            over_seconds=alert.over_seconds,
            state=one.state,
            values=one.values,
        )


@dataclass(frozen=True, slots=True)
class FleetAnswer:
    """The file that was applied last; ``lines`` say whether the fleet is as it says."""

    name: str
    sha256: str
    applied_at: Time
    applied_by: str
    text: str
    plan: Annotated[
        FleetPlanAnswer | None,
        Field(description="none if a version that the file names can't be rolled out any more"),
    ]
    alerts: tuple[AlertAnswer, ...]
    lines: tuple[str, ...]
