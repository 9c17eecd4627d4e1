"""One SQLite file, opened so that power may go at any write, and shared by threads under a lock.

Why WAL: with ``synchronous=FULL`` a commit is one fsync of the log, after which it survives a power
cut. With a rollback journal FULL does not promise that much (the unlinked journal may come back and
undo the commit; that takes EXTRA), and costs several fsyncs, which wear flash. Readers in other
processes, such as ``muster-agent status``, never wait.

SQLite's ``-wal`` and ``-shm`` files take the permissions of the database file.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlite_utils.db import Database

from agent.errors import AgentError, DiskFull, HomeInUse, StoreCorrupt, StoreError
from agent.store.migrations import migrate

DATABASE_NAME: Final = "agent.sqlite"
LOCK_NAME: Final = "agent.lock"
LOCK_TRIES: Final = 5
LOCK_PAUSE_SECONDS: Final = 0.02
BUSY_SECONDS: Final = 10.0
WAL_LIMIT_BYTES: Final = 4 * 1024 * 1024

_CORRUPT: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


class SharedDatabase:
    """A database for the threads of one process; no other process may write to it.

    ``undone`` counts what may have been: whoever keeps in memory what is in the database reads it
    again when that has grown.

    ``read_only`` is for programs beside the agent: it takes no lock and can't write.
    """

    def __init__(self, home: Path, *, read_only: bool = False) -> None:
        self.path = home / DATABASE_NAME
        self.undone = 0
        self._turn = threading.RLock()
        self._in_transaction = False
        self._closed = False
        self._lock_file: int | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(self._release)
            try:
                if not read_only:
                    prepare_home(home)
                    self._lock_file = lock_home(home)
                    make_private_file(self.path)
                self._db = connect(self.path, read_only=read_only)
            except OSError as error:
                raise StoreError(f"{self.path}: {error.strerror or error}") from error
            except sqlite3.Error as error:
                raise translate(error, self.path) from error
            undo.pop_all()

    @contextlib.contextmanager
    def turn(self) -> Iterator[Database]:
        """The database, for this thread alone; each write is durable when it returns.

        Raises:
            DiskFull: no room; nothing was changed.
            StoreError: it can't be read or written.
        """
        with self._turn:
            if self._closed:
                raise StoreError(f"{self.path}: the store is closed")
            if self._in_transaction and not self._db.conn.in_transaction:
                # A full disk may have ended it; what follows must not be written on its own.
                raise StoreError(f"{self.path}: the transaction was lost")
            done = False
            try:
                yield self._db
                done = True
            except sqlite3.Error as error:
                raise translate(error, self.path) from error
            finally:
                self.undone += not done

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """As ``turn``; all writes of the block become durable together, or none does.

        Raises:
            RuntimeError: it stands in another one.
        """
        with self.turn() as db:
            if self._in_transaction:
                raise RuntimeError("a transaction in a transaction")
            self._in_transaction = True
            try:
                with db.atomic():
                    yield db
            finally:
                self._in_transaction = False

    def close(self) -> None:
        """Closes the database and lets others have the home. May be called twice."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self._db.close()
                self._release()

    def _release(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def prepare_home(home: Path) -> None:
    """Makes the folder for its owner alone.

    Raises:
        StoreError: others may write in it: they could swap what the agent trusts.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_mode & 0o022:
        raise StoreError(f"{home}: others may write in it; run `chmod go-w {home}`")


def lock_home(home: Path) -> int:
    """A descriptor that holds the home for this process; the kernel lets go when it dies.

    Raises:
        HomeInUse: another process has it.
    """
    lock = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if tries_left:
                time.sleep(LOCK_PAUSE_SECONDS)  # `status` holds it for an instant, to look
                continue
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise HomeInUse(f"{home}: in use by process {holder}") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def make_private_file(path: Path) -> None:
    """The file is there and nobody else's to read; its name is durable.

    Raises:
        OSError: it is a symbolic link, or can't be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def connect(path: Path, *, read_only: bool) -> Database:
    """The database, brought to this agent's version unless it is only read.

    Raises:
        sqlite3.Error: it can't be opened.
        StoreTooNew: a newer agent wrote it.
        StoreCorrupt: its pages do not hold together.
    """
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        check_same_thread=False,  # SharedDatabase lets one thread in at a time
    )
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        # Plug-ins that happen to be installed have no business on this connection.
        db = Database(connection, execute_plugins=False, recursive_triggers=False)
        if not read_only:
            make_durable(db)
            check_pages(db, path)
            migrate(db)
        undo.pop_all()
    return db


def make_durable(db: Database) -> None:
    """From now on a commit that has returned survives a power cut."""
    db.enable_wal()
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA temp_store = MEMORY")


def check_pages(db: Database, path: Path) -> None:
    """Returns if the database's pages hold together.

    Raises:
        StoreCorrupt: they do not.
    """
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreCorrupt(f"{path}: {verdict}")


def translate(error: sqlite3.Error, path: Path) -> AgentError:
    """Our error for SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"{path}: {error}")
    if code in _CORRUPT:
        return StoreCorrupt(f"{path}: {error}")
    return StoreError(f"{path}: {error}")
