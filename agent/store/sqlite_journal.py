"""The device's part in federated runs, in SQLite."""

from agent.federated.record import Journal
from agent.store.database import SharedDatabase
from agent.store.records import from_text, to_text


class SqliteJournalStore:
    """See ``JournalStore``."""

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    def load(self) -> Journal:
        """The journal; who only looks may find the tables of an older agent, which has none."""
        with self._database.turn() as db:
            if not db.table("journal").exists():
                return Journal()
            row = db.execute("SELECT record FROM journal WHERE id = 1").fetchone()
        return from_text(row[0], Journal) if row else Journal()

    def save(self, journal: Journal) -> None:
        """Replaces all of it at once."""
        with self._database.turn() as db:
            db.table("journal").upsert({"id": 1, "record": to_text(journal)}, pk="id")
