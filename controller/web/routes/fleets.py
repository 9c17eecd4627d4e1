"""Fleets as files: plan, apply, list, show."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from controller.fleet_config import actions
from controller.fleet_config.actions import FleetText
from controller.fleet_config.alerts import alert_line
from controller.fleet_config.reading import BadFleetFile, read_fleet
from controller.fleet_config.sentences import applied_lines, leftover_line, plan_lines
from controller.web.access import Operating, Services, Viewer
from controller.web.fleet_views import (
    AlertAnswer,
    ApplyAnswer,
    FleetAnswer,
    FleetPlanAnswer,
    FleetRow,
)

router = APIRouter(tags=["fleets"])


@dataclass(frozen=True, slots=True)
class FleetBody:
    """A fleet's file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    text: Annotated[str, Field(description="TOML")]
    file: Annotated[str, Field(max_length=255, description="what messages call it")] = "fleet.toml"
    again: Annotated[bool, Field(description="start anew what was aborted or rolled back")] = False


@dataclass(frozen=True, slots=True)
class ApplyBody(FleetBody):
    """A fleet's file, and what becomes of what it no longer asks for."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    prune: Annotated[
        bool,
        Field(description="end rollouts that it no longer asks for; devices keep what they run"),
    ] = False


@router.post("/fleets/plan")
def plan_fleet(services: Services, _: Viewer, body: FleetBody) -> FleetPlanAnswer:
    """What applying the file would change, and how long it would take. Changes nothing."""
    with services.store.read() as tx:
        found = actions.plan_fleet(
            tx, FleetText(body.text, body.file), services.now(), again=body.again
        )
    return FleetPlanAnswer.of(found, plan_lines(found))


@router.post("/fleets/apply")
def apply_fleet(services: Services, operator: Operating, body: ApplyBody) -> ApplyAnswer:
    """Makes the fleet as its file says; a second time there is nothing to do."""
    with services.store.begin() as tx:
        done = actions.apply_fleet(
            tx,
            FleetText(body.text, body.file),
            operator.name,
            services.now(),
            prune=body.prune,
            again=body.again,
        )
    if done.started or done.ended:
        services.wake_rollouts()
    left = () if body.prune else tuple(map(leftover_line, done.plan.leftover))
    lines = (*applied_lines(done.started, done.ended), *left)
    return ApplyAnswer(done.plan.fleet.name, done.started, done.ended, lines)


@router.get("/fleets")
def list_fleets(services: Services, _: Viewer) -> tuple[FleetRow, ...]:
    """Every fleet whose file was applied."""
    with services.store.read() as tx:
        return tuple(FleetRow.of(one) for one in actions.list_fleets(tx))


@router.get("/fleets/{fleet}")
def show_fleet(services: Services, _: Viewer, fleet: str) -> FleetAnswer:
    """The file that was applied last, whether all is as it says, and what its alerts say."""
    now = services.now()
    with services.store.read() as tx:
        applied = actions.applied_fleet(tx, fleet)
        file = FleetText(applied.text, f"{fleet}.toml")
        alerts = actions.fleet_alerts(tx, read_fleet(file.text, file.file), now)
        try:
            found = actions.plan_fleet(tx, file, now)
        except BadFleetFile as error:  # a version was recalled since, or an alias removed
            plan, lines = None, tuple(error.detail.split("\n"))
        else:
            plan, lines = FleetPlanAnswer.of(found, plan_lines(found)), plan_lines(found)
    return FleetAnswer(
        name=applied.name,
        sha256=applied.sha256,
        applied_at=applied.applied_at,
        applied_by=applied.applied_by,
        text=applied.text,
        plan=plan,
        alerts=tuple(map(AlertAnswer.of, alerts)),
        lines=(*lines, *map(alert_line, alerts)),
    )
