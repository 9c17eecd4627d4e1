"""Incidents and their stories in memory."""

from collections.abc import Iterable, Sequence

from controller.incident.incident import AT_END, Incident, StoryEntry
from simulations.memory_store.journal import Journal


class MemoryIncidents:
    """``controller.store.incident_tables.Incidents``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._incidents: dict[str, Incident] = {}
        self._stories: dict[tuple[str, str], StoryEntry] = {}  # in the order of telling

    def get(self, incident: str) -> Incident | None:  # noqa: D102 - see the Protocol
        return self._incidents.get(incident)

    def all(self, model: str | None = None) -> Sequence[Incident]:  # noqa: D102
        found = [one for one in self._incidents.values() if model in (None, one.model)]
        return sorted(found, key=lambda one: (one.opened_ms, one.id), reverse=True)

    def open(self) -> Sequence[Incident]:  # noqa: D102
        found = [one for one in self._incidents.values() if one.state not in AT_END]
        return sorted(found, key=lambda one: one.id)

    def put(self, incident: Incident) -> None:  # noqa: D102
        self._journal.put(self._incidents, incident.id, incident)

    def tell(self, incident: str, entries: Iterable[StoryEntry]) -> None:  # noqa: D102
        for one in entries:
            if (incident, one.key) not in self._stories:
                self._journal.put(self._stories, (incident, one.key), one)

    def story(self, incident: str) -> Sequence[StoryEntry]:  # noqa: D102
        told = [one for (of, _), one in self._stories.items() if of == incident]
        return sorted(told, key=lambda one: one.at_ms)
