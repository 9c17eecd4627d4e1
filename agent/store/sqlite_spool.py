"""Records that wait for the controller, in SQLite."""

import secrets
from collections.abc import Mapping, Sequence

from sqlite_utils.db import Database

from agent.store.database import SharedDatabase
from agent.store.device_store import SpoolRecord
from agent.store.spool_order import SpoolLimits, Totals, check_kind, next_to_go


class SqliteSpool:
    """See ``Spool``. AUTOINCREMENT keeps a sequence from being used twice, though rows go.

    What it holds is counted once, and again only after something was undone: no other process writes.
    """

    def __init__(self, database: SharedDatabase, limits: SpoolLimits) -> None:
        self._database = database
        self._limits = limits
        self._counted: tuple[int, Totals] | None = None

    @property
    def spool_id(self) -> str:
        """Random, made when it is first asked for."""
        query = "SELECT value FROM facts WHERE name = 'spool_id'"
        with self._database.turn() as db, db.atomic():
            row = db.execute(query).fetchone()
            if row:
                return str(row[0])
            made = secrets.token_hex(16)
            db.table("facts").insert({"name": "spool_id", "value": made}, pk="name")
            return made

    def put(self, kind: str, payload: bytes, recorded_ms: int) -> int:
        """The record's sequence. Drops and counts what no longer fits: perhaps this record.

        Raises:
            DiskFull: no room on the disk; nothing was changed.
        """
        check_kind(kind)
        statement = "INSERT INTO spool (kind, recorded_ms, size, payload) VALUES (?, ?, ?, ?)"
        with self._database.turn() as db, db.atomic():
            totals = self._totals(db)
            row = db.execute(statement, [kind, recorded_ms, len(payload), payload])
            sequence = int(row.lastrowid or 0)
            if len(payload) > self._limits.size:
                drop(db, kind, sequence)  # it would push out everything, and still not fit
            else:
                totals.add(kind, 1, len(payload))
                make_room(db, totals, self._limits)
        return sequence

    def batch(self, records: int, size: int) -> Sequence[SpoolRecord]:
        """The oldest records: at most so many, and so many bytes unless the first is larger."""
        query = "SELECT sequence, kind, recorded_ms, payload FROM spool ORDER BY sequence LIMIT ?"
        taken: list[SpoolRecord] = []
        room = size
        with self._database.turn() as db:
            for sequence, kind, recorded_ms, payload in db.execute(query, [records]):
                room -= len(payload)
                if room < 0 and taken:
                    break
                taken.append(SpoolRecord(sequence, kind, recorded_ms, bytes(payload)))
        return taken

    def forget(self, through: int) -> None:
        """Removes every record up to and with that sequence."""
        going = "SELECT kind, count(*), sum(size) FROM spool WHERE sequence <= ? GROUP BY kind"
        with self._database.turn() as db, db.atomic():
            totals = self._totals(db)
            for kind, records, size in db.execute(going, [through]).fetchall():
                totals.add(kind, -records, -size)
            db.execute("DELETE FROM spool WHERE sequence <= ?", [through])

    def dropped(self) -> Mapping[str, int]:
        """How many of each kind were dropped since the spool was made."""
        with self._database.turn() as db:
            return dict(db.execute("SELECT kind, count FROM spool_dropped ORDER BY kind"))

    def __len__(self) -> int:
        """How many records wait."""
        with self._database.turn() as db:
            return int(db.execute("SELECT count(*) FROM spool").fetchone()[0])

    def _totals(self, db: Database) -> Totals:
        """What the spool holds, to be kept right by whoever changes it. In a turn at the database."""
        undone = self._database.undone
        if self._counted is None or self._counted[0] != undone:
            self._counted = undone, count(db)
        return self._counted[1]


def count(db: Database) -> Totals:
    """What the spool holds: a walk over its whole index."""
    query = "SELECT kind, count(*), sum(size) FROM spool INDEXED BY spool_by_kind GROUP BY kind"
    totals = Totals()
    for kind, records, size in db.execute(query):
        totals.add(kind, records, size)
    return totals


def make_room(db: Database, totals: Totals, limits: SpoolLimits) -> None:
    """Drops records until the rest is within the limits."""
    oldest = "SELECT sequence, size FROM spool WHERE kind = ? ORDER BY sequence LIMIT 1"
    while (kind := next_to_go(totals, limits)) is not None:
        sequence, size = db.execute(oldest, [kind]).fetchone()
        drop(db, kind, sequence)
        totals.add(kind, -1, -size)


def drop(db: Database, kind: str, sequence: int) -> None:
    """Removes the record and counts it."""
    db.execute("DELETE FROM spool WHERE sequence = ?", [sequence])
    db.execute(
        "INSERT INTO spool_dropped (kind, count) VALUES (?, 1)"
        " ON CONFLICT (kind) DO UPDATE SET count = count + 1",
        [kind],
    )
