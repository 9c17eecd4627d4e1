"""The tables of the agent's database, version by version. Forward only; a shipped step never changes.

``PRAGMA user_version`` counts the steps that were taken.
"""

import json
from collections.abc import Callable, Sequence
from typing import Final

from sqlite_utils.db import Database

from agent.errors import StoreTooNew

Migration = Callable[[Database], None]


def first_tables(db: Database) -> None:
    """Version 1. The spool's table is plain SQL: its sequences must never be used twice."""
    db.table("facts").create({"name": str, "value": str}, pk="name", strict=True)
    db.table("identity").create({"id": int, "record": str}, pk="id", strict=True)
    db.table("trust_metadata").create({"name": str, "data": bytes}, pk="name", strict=True)
    db.table("trust_floors").create({"model": str, "floor": int}, pk="model", strict=True)
    db.table("trust_recalled").create({"sha256": str}, pk="sha256", strict=True)
    db.table("directive").create(
        {"id": int, "generation": int, "envelope": bytes}, pk="id", strict=True
    )
    where = ("model", "slot")
    db.table("slots").create({"model": str, "slot": str, "record": str}, pk=where, strict=True)
    db.table("installs").create({"model": str, "slot": str, "record": str}, pk=where, strict=True)
    db.table("quarantine").create(
        {"sha256": str, "code": str, "detail": str, "at": float}, pk="sha256", strict=True
    )
    db.execute(
        "CREATE TABLE spool (sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,"
        " recorded_ms INTEGER NOT NULL, size INTEGER NOT NULL, payload BLOB NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX spool_by_kind ON spool (kind, sequence, size)")
    db.table("spool_dropped").create({"kind": str, "count": int}, pk="kind", strict=True)
    db.table("windows").create({"key": str, "data": bytes}, pk="key", strict=True)


def names_of_what_failed(db: Database) -> None:
    """Version 2. People know a version by its name; what failed before has none, unless it is tried."""
    db.table("quarantine").add_column("model", str, not_null_default="")
    db.table("quarantine").add_column("version", int, not_null_default=0)
    for (record,) in db.execute("SELECT record FROM installs").fetchall():
        named = json.loads(record)
        db.execute(
            "UPDATE quarantine SET model = ?, version = ? WHERE sha256 = ?",
            [named["model"], named["version"], named["sha256"]],
        )


def attempts_of_what_failed(db: Database) -> None:
    """Version 3. What failed before attempts were counted failed at the first."""
    db.table("quarantine").add_column("rollout", str, not_null_default="")
    db.table("quarantine").add_column("attempt", int, not_null_default=1)


def journal_of_federated_runs(db: Database) -> None:
    """Version 4."""
    db.table("journal").create({"id": int, "record": str}, pk="id", strict=True)


MIGRATIONS: Final[tuple[Migration, ...]] = (
    first_tables,
    names_of_what_failed,
    attempts_of_what_failed,
    journal_of_federated_runs,
)


def migrate(db: Database, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Takes every step that is due, each in a transaction of its own; returns the version.

    Raises:
        StoreTooNew: the database is of a later version than the last step.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise StoreTooNew(
            f"the database is of version {version}; this agent knows up to {len(migrations)}"
        )
    for number, migration in enumerate(migrations[version:], start=version + 1):
        with db.atomic():
            migration(db)
            db.execute(f"PRAGMA user_version = {number}")
    return len(migrations)
