"""What the device believes of the image side, in SQLite."""

from sqlite_utils.db import Database

from agent.store.database import SharedDatabase
from agent.store.device_store import TrustedState


class SqliteTrustStore:
    """See ``TrustStore``. Unchanged rows are not written again: a refresh costs little flash."""

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    def load(self) -> TrustedState:
        """The state; empty before the first refresh."""
        with self._database.turn() as db, db.atomic():
            return load(db)

    def save(self, state: TrustedState) -> None:
        """Replaces all of it at once."""
        with self._database.turn() as db, db.atomic():
            before = load(db)
            metadata, floors = db.table("trust_metadata"), db.table("trust_floors")
            recalled = db.table("trust_recalled")
            for name in before.metadata.keys() - state.metadata.keys():
                metadata.delete(name)
            for name, data in state.metadata.items() - before.metadata.items():
                metadata.upsert({"name": name, "data": data}, pk="name")
            for model in before.floors.keys() - state.floors.keys():
                floors.delete(model)
            for model, floor in state.floors.items() - before.floors.items():
                floors.upsert({"model": model, "floor": floor}, pk="model")
            for sha256 in before.recalled - state.recalled:
                recalled.delete(sha256)
            for sha256 in state.recalled - before.recalled:
                recalled.insert({"sha256": sha256}, pk="sha256")
            if state.latest_time != before.latest_time:
                latest = {"name": "latest_time", "value": str(state.latest_time)}
                db.table("facts").upsert(latest, pk="name")


def load(db: Database) -> TrustedState:
    """The state as it stands."""
    latest = db.execute("SELECT value FROM facts WHERE name = 'latest_time'").fetchone()
    return TrustedState(
        metadata=dict(db.execute("SELECT name, data FROM trust_metadata")),
        latest_time=int(latest[0]) if latest else 0,
        floors=dict(db.execute("SELECT model, floor FROM trust_floors")),
        recalled=frozenset(sha256 for (sha256,) in db.execute("SELECT sha256 FROM trust_recalled")),
    )
