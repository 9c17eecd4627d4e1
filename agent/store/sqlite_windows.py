"""Open windows, in SQLite."""

from collections.abc import Mapping

from agent.store.database import SharedDatabase


class SqliteWindowStore:
    """See ``WindowStore``."""

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    def checkpoints(self) -> Mapping[str, bytes]:
        """Open windows by key, as last saved."""
        with self._database.turn() as db:
            return dict(db.execute("SELECT key, data FROM windows ORDER BY key"))

    def checkpoint(self, key: str, window: bytes) -> None:
        """Saves an open window."""
        with self._database.turn() as db:
            db.table("windows").upsert({"key": key, "data": window}, pk="key")

    def discard(self, key: str) -> None:
        """Forgets an open window."""
        with self._database.turn() as db:
            db.table("windows").delete_where("key = ?", [key])
