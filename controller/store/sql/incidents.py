"""Incidents and their stories in the database."""

from collections.abc import Iterable, Sequence

from sqlalchemy import func, select

from controller.incident.incident import AT_END, EntryKind, Incident, IncidentState, StoryEntry
from controller.store.sql.incident_tables import incidents, stories
from controller.store.sql.session import Row, Session, columns


class SqlIncidents:
    """``controller.store.incident_tables.Incidents``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, incident: str) -> Incident | None:  # noqa: D102 - see the Protocol
        row = self._session.first(select(incidents).where(incidents.c.id == incident))
        return None if row is None else _incident(row)

    def all(self, model: str | None = None) -> Sequence[Incident]:  # noqa: D102
        query = select(incidents).order_by(incidents.c.opened_ms.desc(), incidents.c.id.desc())
        if model is not None:
            query = query.where(incidents.c.model == model)
        return [_incident(row) for row in self._session.all(query)]

    def open(self) -> Sequence[Incident]:  # noqa: D102
        ended = [state.value for state in AT_END]
        query = select(incidents).where(incidents.c.state.not_in(ended)).order_by(incidents.c.id)
        return [_incident(row) for row in self._session.all(query)]

    def put(self, incident: Incident) -> None:  # noqa: D102
        self._session.put(incidents, {**columns(incident), "state": incident.state.value})

    def tell(self, incident: str, entries: Iterable[StoryEntry]) -> None:  # noqa: D102
        of = stories.c.incident == incident
        told = self._session.value(select(func.max(stories.c.told)).where(of)) or 0
        rows = [
            {**columns(one), "kind": one.kind.value, "incident": incident, "told": told + number}
            for number, one in enumerate(entries, 1)
        ]
        self._session.add(stories, rows)

    def story(self, incident: str) -> Sequence[StoryEntry]:  # noqa: D102
        query = (
            select(stories)
            .where(stories.c.incident == incident)
            .order_by(stories.c.at_ms, stories.c.told)
        )
        return [_entry(row) for row in self._session.all(query)]


def _incident(row: Row) -> Incident:
    return Incident(**{**row, "state": IncidentState(row["state"])})


def _entry(row: Row) -> StoryEntry:
    return StoryEntry(
        row["key"], row["at_ms"], EntryKind(row["kind"]), row["subject"], row["sentence"]
    )
