"""Examples in an SQLite file of their own.

They are apart from what the device must never lose: they may be large, they may be cleared by the
device's owner while the agent runs, and a damaged file is begun anew. So every figure is asked of the
file, and none is kept in memory.
"""

import contextlib
import logging
import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sqlite_utils.db import Database

from agent.errors import StoreCorrupt, StoreError
from agent.federated.examples import Example, Held, Part, rows_at_once
from agent.federated.layout import Layout
from agent.federated.retention import Retention, Totals, group_to_go, is_full, largest
from agent.store.database import (
    BUSY_SECONDS,
    check_pages,
    make_durable,
    make_private_file,
    translate,
)
from agent.store.migrations import migrate

log = logging.getLogger(__name__)

EXAMPLES_NAME: Final = "examples.sqlite"


def first_tables(db: Database) -> None:
    """Version 1. ``groups`` lets the next to go be found without reading a row."""
    db.execute(
        "CREATE TABLE layouts (id INTEGER PRIMARY KEY, model TEXT NOT NULL, key TEXT NOT NULL,"
        " UNIQUE (model, key)) STRICT"
    )
    db.execute(
        "CREATE TABLE examples (id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL,"
        " layout INTEGER NOT NULL, part TEXT NOT NULL, class INTEGER NOT NULL, rank REAL NOT NULL,"
        " at REAL NOT NULL, source BLOB NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL,"
        " UNIQUE (model, source)) STRICT"
    )
    db.execute("CREATE INDEX parts ON examples (layout, part, id, size)")
    db.execute("CREATE INDEX groups ON examples (model, class, rank, id, size)")
    db.execute("CREATE INDEX times ON examples (at)")


class SqliteExamples:
    """See ``ExampleStore``. Other processes may read it, and clear it.

    Raises:
        StoreCorrupt, StoreTooNew: the file can't be used.
        DiskFull, StoreError: it can't be opened.
    """

    def __init__(self, path: Path, retention: Retention) -> None:
        self._path = path
        self._retention = retention
        self._turn = threading.Lock()
        self._closed = False
        try:
            make_private_file(path)
            self._db = _connected(path)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise translate(error, path) from error

    def add(self, model: str, layout: Layout, examples: Sequence[Example]) -> float:
        """Keeps them, and lets go what is beyond bounds; returns the rank that stays."""
        statement = (
            "INSERT INTO examples (model, layout, part, class, rank, at, source, size, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (model, source) DO UPDATE SET"
            " layout = excluded.layout, part = excluded.part, class = excluded.class,"
            " rank = excluded.rank, at = excluded.at, size = excluded.size, data = excluded.data"
        )
        with self._access() as db, db.atomic():
            at = _layout(db, model, layout)
            for one in examples:
                if len(one.data) <= self._retention.size:  # else it would push out all others
                    db.execute(
                        statement,
                        [
                            *(model, at, one.part.value, one.group, one.rank, one.at),
                            *(one.source, len(one.data), one.data),
                        ],
                    )
            return self._make_room(db, model)

    def held(self, model: str, layout: Layout) -> Held:
        """What there is to learn from."""
        query = (
            "SELECT part, count(*), sum(size) FROM examples JOIN layouts ON layout = layouts.id"
            " WHERE layouts.model = ? AND key = ? GROUP BY part"
        )
        with self._access() as db:
            return _held(db.execute(query, [model, layout.key]).fetchall())

    def rows(self, model: str, layout: Layout, part: Part) -> Iterator[bytes]:
        """Every example of that part, some rows in each piece."""
        query = (
            "SELECT examples.id, data FROM examples JOIN layouts ON layout = layouts.id"
            " WHERE layouts.model = ? AND key = ? AND part = ? AND examples.id > ?"
            " ORDER BY examples.id LIMIT ?"
        )
        last = 0
        while True:
            with self._access() as db:
                given = [model, layout.key, part.value, last, rows_at_once(layout)]
                found = db.execute(query, given).fetchall()
            if not found:
                return
            last = found[-1][0]
            yield b"".join(data for _, data in found)

    def models(self) -> Sequence[tuple[str, Held]]:
        """What is kept of every model."""
        query = "SELECT model, part, count(*), sum(size) FROM examples GROUP BY model, part"
        parts: dict[str, list[tuple[str, int, int]]] = {}
        with self._access() as db:
            for model, *counted in db.execute(query):
                parts.setdefault(model, []).append((counted[0], counted[1], counted[2]))
        return [(model, _held(parts[model])) for model in sorted(parts)]

    def expire(self, now: float) -> int:
        """Lets go what is too old; returns how many."""
        with self._access() as db, db.atomic():
            oldest = now - self._retention.seconds
            return db.execute("DELETE FROM examples WHERE at < ?", [oldest]).rowcount

    def clear(self, model: str = "") -> int:
        """Forgets a model's examples, or all; nothing of them is left in the file."""
        which, given = ("WHERE model = ?", [model]) if model else ("WHERE true", [])
        with self._access() as db:
            with db.atomic():
                gone = db.execute(f"DELETE FROM examples {which}", given).rowcount  # noqa: S608
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return gone

    def close(self) -> None:
        """Closes the file. May be called twice."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._db.close()

    @contextlib.contextmanager
    def _access(self) -> Iterator[Database]:
        with self._turn:
            if self._closed:
                raise StoreError(f"{self._path}: the store is closed")
            try:
                yield self._db
            except sqlite3.Error as error:
                raise translate(error, self._path) from error

    def _make_room(self, db: Database, model: str) -> float:
        totals = Totals()
        counted = "SELECT class, count(*), sum(size) FROM examples WHERE model = ? GROUP BY class"
        for group, examples, size in db.execute(counted, [model]):
            totals.add(group, examples, size)
        lowest = "SELECT id, size, rank FROM examples WHERE model = ? AND class = ? ORDER BY rank, id LIMIT 1"
        while (group := group_to_go(totals, self._retention)) is not None:
            one, size, _ = db.execute(lowest, [model, group]).fetchone()
            db.execute("DELETE FROM examples WHERE id = ?", [one])
            totals.add(group, -1, -size)
        if not is_full(totals, self._retention):
            return -math.inf
        return float(db.execute(lowest, [model, largest(totals)]).fetchone()[2])


def open_examples(path: Path, retention: Retention) -> SqliteExamples:
    """The examples at ``path``; a damaged file is begun anew: a device learns again what it needs.

    Raises:
        StoreTooNew, DiskFull, StoreError: it can't be opened.
    """
    try:
        return SqliteExamples(path, retention)
    except StoreCorrupt as error:
        log.warning("examples.damaged begun-anew detail=%s", error.detail)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return SqliteExamples(path, retention)


def _connected(path: Path) -> Database:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        db = Database(connection, execute_plugins=False, recursive_triggers=False)
        make_durable(db)
        # Whole after a power cut, though its last moments may be gone: a wait for every example would
        # wear the disk.
        db.execute("PRAGMA synchronous = NORMAL")
        check_pages(db, path)
        migrate(db, (first_tables,))
        undo.pop_all()
    return db


def _layout(db: Database, model: str, layout: Layout) -> int:
    db.execute("INSERT OR IGNORE INTO layouts (model, key) VALUES (?, ?)", [model, layout.key])
    query = "SELECT id FROM layouts WHERE model = ? AND key = ?"
    return int(db.execute(query, [model, layout.key]).fetchone()[0])


def _held(parts: Sequence[tuple[str, int, int]]) -> Held:
    counts = {part: count for part, count, _ in parts}
    return Held(
        training=counts.get(Part.TRAINING.value, 0),
        held_out=counts.get(Part.HELD_OUT.value, 0),
        size=sum(size for *_, size in parts),
    )
