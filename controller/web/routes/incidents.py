"""Incidents: what was found, what is being done about it, and how it ended."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from controller.incident import actions
from controller.incident.incident import Incident, StoryEntry
from controller.web.access import Operating, Services, Viewer

router = APIRouter(tags=["incidents"])


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One incident."""

    id: str
    model: str
    version: Annotated[int, Field(description="which the fleet ran when it was found")]
    state: Annotated[
        str,
        Field(description="open, retraining, deciding, rolling-out, watching, recovered or closed"),
    ]
    opened_at: Annotated[float, Field(description="Unix seconds")]
    ended_at: Annotated[float, Field(description="Unix seconds; 0: not yet")]
    run: Annotated[str, Field(description="the federated run for it; empty: none")]
    candidate: Annotated[int | None, Field(description="the version that came of the run")]
    rollout: Annotated[str, Field(description="of the candidate; empty: none")]
    closed_by: str

    @classmethod
    def of(cls, one: Incident) -> Self:
        """As it is stored."""
        return cls(
            id=one.id,
            model=one.model,
            version=one.version,
            state=one.state.value,
            opened_at=one.opened_ms / 1000,
            ended_at=one.ended_ms / 1000,
            run=one.run,
            candidate=one.candidate,
            rollout=one.rollout,
            closed_by=one.closed_by,
        )


@dataclass(frozen=True, slots=True)
class StoryLine:
    """Something that happened."""

    at: Annotated[float, Field(description="Unix seconds")]
    kind: Annotated[
        str, Field(description="finding, run, round, candidate, approval, rollout or end")
    ]
    subject: Annotated[str, Field(description="the version, run or rollout that it is about")]
    sentence: str

    @classmethod
    def of(cls, one: StoryEntry) -> Self:
        """As it is stored."""
        return cls(one.at_ms / 1000, one.kind.value, one.subject, one.sentence)


@dataclass(frozen=True, slots=True)
class IncidentAnswer:
    """An incident and its story, in order."""

    incident: IncidentRow
    story: tuple[StoryLine, ...]


@dataclass(frozen=True, slots=True)
class CloseBody:
    """Why."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=1000)] = ""


@router.get("/incidents")
def list_incidents(
    services: Services, _: Viewer, model: Annotated[str | None, Query()] = None
) -> tuple[IncidentRow, ...]:
    """The newest first."""
    with services.store.read() as tx:
        return tuple(IncidentRow.of(one) for one in tx.incidents.all(model))


@router.get("/incidents/{incident}")
def show_incident(services: Services, _: Viewer, incident: str) -> IncidentAnswer:
    """From the first finding on."""
    with services.store.read() as tx:
        found = actions.show(tx, incident)
    return IncidentAnswer(
        IncidentRow.of(found.incident), tuple(StoryLine.of(one) for one in found.story)
    )


@router.post("/incidents/{incident}/close")
def close_incident(
    services: Services, operator: Operating, incident: str, body: CloseBody
) -> IncidentRow:
    """Ends one that nobody will do anything about. What was begun for it goes on."""
    with services.store.begin() as tx:
        return IncidentRow.of(
            actions.close(tx, incident, body.reason, operator.name, services.now())
        )
