"""The part of the seam to the database that incidents need."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from controller.incident.incident import Incident, StoryEntry


class Incidents(Protocol):
    """Incidents and their stories."""

    def get(self, incident: str) -> Incident | None: ...  # noqa: D102
    def all(self, model: str | None = None) -> Sequence[Incident]:
        """By when they were opened, the newest first."""
        ...

    def open(self) -> Sequence[Incident]:
        """Those that have not ended, by id."""
        ...

    def put(self, incident: Incident) -> None:
        """Inserts or replaces."""
        ...

    def tell(self, incident: str, entries: Iterable[StoryEntry]) -> None:
        """Adds what is new by its key; what is told stays as it is."""
        ...

    def story(self, incident: str) -> Sequence[StoryEntry]:
        """In the order of time; of one moment, in the order in which they were told."""
        ...
