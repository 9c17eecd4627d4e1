"""Who this device is, in SQLite."""

from agent.store.database import SharedDatabase
from agent.store.device_store import Identity
from agent.store.records import from_text, to_text


class SqliteIdentityStore:
    """See ``IdentityStore``."""

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    def load(self) -> Identity | None:
        """The identity, or None before enrolment."""
        with self._database.turn() as db:
            row = db.execute("SELECT record FROM identity WHERE id = 1").fetchone()
        return from_text(row[0], Identity) if row else None

    def save(self, identity: Identity) -> None:
        """Replaces the identity."""
        with self._database.turn() as db:
            db.table("identity").upsert({"id": 1, "record": to_text(identity)}, pk="id")

    def next_counter(self) -> int:
        """1, 2, 3, …; durable before it is returned, so a restart never gives it again."""
        with self._database.turn() as db, db.atomic():
            row = db.execute("SELECT value FROM facts WHERE name = 'counter'").fetchone()
            counter = int(row[0]) + 1 if row else 1
            db.table("facts").upsert({"name": "counter", "value": str(counter)}, pk="name")
        return counter
