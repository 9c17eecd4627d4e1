"""The store over SQLAlchemy Core: SQLite in WAL, made for one controller process.

SQLite takes one writer at a time. Threads of this process queue on a lock, and other processes
wait for up to ``BUSY_SECONDS``; every transaction that may write says BEGIN IMMEDIATE, so that none
fails half-way because another has written since it first read. Who only reads has connections of
its own: with a WAL a reader sees what was committed when it began, and neither waits for a writer
nor is waited for.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from controller.errors import Conflict, StoreError
from controller.store.sql.audit import SqlAudit
from controller.store.sql.changes import SqlChanges
from controller.store.sql.fleet import SqlDevices, SqlOperators, SqlTokens
from controller.store.sql.fleets import SqlFleets
from controller.store.sql.incidents import SqlIncidents
from controller.store.sql.leases import SqlLeases
from controller.store.sql.migration import upgrade
from controller.store.sql.models import SqlImageMetadata, SqlRegistry
from controller.store.sql.noted import Noted
from controller.store.sql.retention import SqlRetention
from controller.store.sql.rollouts import SqlRollouts
from controller.store.sql.runs import SqlRuns
from controller.store.sql.session import Session, reason
from controller.store.sql.stages import SqlStages
from controller.store.sql.tasks import SqlTasks
from controller.store.sql.telemetry import SqlTelemetry
from controller.store.sql.totals import SqlTotals

BUSY_SECONDS: Final = 30
CONNECTIONS_KEPT: Final = 8


class SqlTransaction:
    """``controller.store.store.Transaction``."""

    def __init__(self, session: Session) -> None:
        noted = Noted(session)
        self.devices = SqlDevices(session, noted)
        self.tokens = SqlTokens(session)
        self.operators = SqlOperators(session)
        self.registry = SqlRegistry(session)
        self.metadata = SqlImageMetadata(session)
        self.rollouts = SqlRollouts(session, noted)
        self.fleets = SqlFleets(session)
        self.stages = SqlStages(session, noted)
        self.changes = SqlChanges(session)
        self.telemetry = SqlTelemetry(session)
        self.totals = SqlTotals(session)
        self.retention = SqlRetention(session)
        self.audit = SqlAudit(session)
        self.leases = SqlLeases(session)
        self.runs = SqlRuns(session)
        self.tasks = SqlTasks(session, noted)
        self.incidents = SqlIncidents(session)


class SqlStore:
    """``controller.store.store.Store`` in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._readers = _engine(engine.url, _begin_reading, "query_only=ON")
        self._name = engine.url.database or engine.url.get_backend_name()
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._closed = False

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at an SQLAlchemy URL ("sqlite:////var/lib/muster/muster.db"), brought up to date.

        A SQLite file that is not there is made, for its owner only; its folder must exist.

        Raises:
            StoreError: it can't be opened, is no database of ours, or a newer version has used it.
        """
        with _alone(_file(url)):
            store = cls(_engine(make_url(url), _begin))
            try:
                with store._connected() as connection:
                    upgrade(connection)
            except StoreError:
                store.close()
                raise
        return store

    def begin(self) -> AbstractContextManager[SqlTransaction]:
        """A transaction, once every other has ended.

        Raises:
            StoreError: the database can't be read or written, the store is closed, or the thread
                holds a transaction already.
        """
        return self._transaction()

    def read(self) -> AbstractContextManager[SqlTransaction]:
        """What was committed when it began; it waits for no transaction.

        Raises:
            StoreError: as ``begin``, or something was to be written.
        """
        return self._snapshot()

    @contextmanager
    def _transaction(self) -> Iterator[SqlTransaction]:
        with self._connected() as connection:
            yield SqlTransaction(Session(connection))

    @contextmanager
    def _snapshot(self) -> Iterator[SqlTransaction]:
        with self._alone_on_thread(), self._readers.begin() as connection:
            yield SqlTransaction(Session(connection))

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._alone_on_thread(), self._lock, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _alone_on_thread(self) -> Iterator[None]:
        if getattr(self._thread, "busy", False):
            raise StoreError("a transaction inside a transaction")
        if self._closed:
            raise StoreError("the store is closed")
        self._thread.busy = True
        try:
            yield
        except IntegrityError as error:
            raise Conflict(f"{self._name}: {reason(error)}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"{self._name}: {reason(error)}") from error
        finally:
            self._thread.busy = False

    def close(self) -> None:
        """Closes the database. May be called twice."""
        self._closed = True
        self._engine.dispose()
        self._readers.dispose()


def _file(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError("not a database URL: write sqlite:////FOLDER/FILE") from error
    if parsed.drivername != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise StoreError(f"{parsed.drivername}: not supported here: write sqlite:////FOLDER/FILE")
    return Path(str(parsed.database))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Makes the file if need be, and keeps others from opening it in the block.

    The change to WAL does not wait for other connections as all else does. The lock is the folder's:
    closing a descriptor of the file itself would drop the locks that SQLite has on it.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)  # its journals get the same
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    finally:
        os.close(folder)


def _engine(url: URL, begin: Callable[[Connection], None], *settings: str) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS},
        hide_parameters=True,
        json_deserializer=msgspec.json.decode,  # every device bears two texts of JSON
        pool_size=CONNECTIONS_KEPT,
        max_overflow=-1,  # the threads that ask are bounded already
    )

    def prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        # The driver's own idea of when a transaction begins leaves out DDL and reads: take it away
        # (SQLAlchemy, "Serializable isolation / Savepoints / Transactional DDL").
        connection.isolation_level = None
        for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", *settings):
            connection.execute(f"PRAGMA {setting}")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
    # The snapshot is taken by the first read, not by BEGIN.
    connection.exec_driver_sql("SELECT 1 FROM alembic_version").fetchall()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
