"""Records that wait for the controller, in SQLite."""

import secrets
from collections.abc import Mapping, Sequence

from sqlite_utils.db import Database

from agent.store.database import SharedDatabase
from agent.store.device_store import SpoolRecord
from agent.store.spool_order import LEAST_VALUABLE_FIRST, SpoolLimits, check_kind


class SqliteSpool:
    """See ``Spool``. AUTOINCREMENT keeps a sequence from being used twice, though rows go."""

    def __init__(self, database: SharedDatabase, limits: SpoolLimits) -> None:
        self._database = database
        self._limits = limits

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
            row = db.execute(statement, [kind, recorded_ms, len(payload), payload])
            sequence = int(row.lastrowid or 0)
            if len(payload) > self._limits.size:
                drop(db, kind, [sequence])  # it would push out everything, and still not fit
            else:
                make_room(db, self._limits)
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
        with self._database.turn() as db:
            db.table("spool").delete_where("sequence <= ?", [through])

    def dropped(self) -> Mapping[str, int]:
        """How many of each kind were dropped since the spool was made."""
        with self._database.turn() as db:
            return dict(db.execute("SELECT kind, count FROM spool_dropped ORDER BY kind"))

    def __len__(self) -> int:
        """How many records wait."""
        with self._database.turn() as db:
            return int(db.execute("SELECT count(*) FROM spool").fetchone()[0])


def make_room(db: Database, limits: SpoolLimits) -> None:
    """Drops the least valuable records until the rest is within the limits."""
    query = "SELECT count(*), coalesce(sum(size), 0) FROM spool INDEXED BY spool_by_kind"
    records, size = db.execute(query).fetchone()
    for kind in LEAST_VALUABLE_FIRST:
        oldest = db.execute(
            "SELECT sequence, size FROM spool WHERE kind = ? ORDER BY sequence", [kind]
        )
        going: list[int] = []
        while records > limits.records or size > limits.size:
            row = oldest.fetchone()
            if row is None:
                break
            going.append(row[0])
            records, size = records - 1, size - row[1]
        oldest.close()
        drop(db, kind, going)


def drop(db: Database, kind: str, sequences: Sequence[int]) -> None:
    """Removes the records and counts them."""
    if not sequences:
        return
    for sequence in sequences:
        db.execute("DELETE FROM spool WHERE sequence = ?", [sequence])
    db.execute(
        "INSERT INTO spool_dropped (kind, count) VALUES (?, ?)"
        " ON CONFLICT (kind) DO UPDATE SET count = count + excluded.count",
        [kind, len(sequences)],
    )
