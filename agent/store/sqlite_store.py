"""Everything that the agent keeps, in one SQLite file in its home."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from agent.store.database import SharedDatabase
from agent.store.spool_order import DEFAULT_LIMITS, SpoolLimits
from agent.store.sqlite_identity import SqliteIdentityStore
from agent.store.sqlite_installs import SqliteInstallStore
from agent.store.sqlite_journal import SqliteJournalStore
from agent.store.sqlite_spool import SqliteSpool
from agent.store.sqlite_trust import SqliteTrustStore
from agent.store.sqlite_windows import SqliteWindowStore


class SqliteStore:
    """See ``DeviceStore``. Threads may share it; a transaction keeps the others waiting.

    ``read_only`` is for a program beside a running agent: it takes no lock, and every write fails.

    Raises:
        HomeInUse: another process has the home.
        StoreCorrupt, StoreTooNew: the database can't be used; the remedy says what to do.
        DiskFull, StoreError: it can't be opened.
    """

    def __init__(
        self, home: Path, limits: SpoolLimits = DEFAULT_LIMITS, *, read_only: bool = False
    ) -> None:
        self._database = SharedDatabase(home, read_only=read_only)
        self._identity = SqliteIdentityStore(self._database)
        self._trust = SqliteTrustStore(self._database)
        self._installs = SqliteInstallStore(self._database)
        self._spool = SqliteSpool(self._database, limits)
        self._windows = SqliteWindowStore(self._database)
        self._journal = SqliteJournalStore(self._database)

    @property
    def identity(self) -> SqliteIdentityStore:
        """Who this device is."""
        return self._identity

    @property
    def trust(self) -> SqliteTrustStore:
        """What the device believes of the image side."""
        return self._trust

    @property
    def installs(self) -> SqliteInstallStore:
        """What shall run, what does run, and what is being tried."""
        return self._installs

    @property
    def spool(self) -> SqliteSpool:
        """Records that wait for the controller."""
        return self._spool

    @property
    def windows(self) -> SqliteWindowStore:
        """Open windows."""
        return self._windows

    @property
    def journal(self) -> SqliteJournalStore:
        """The device's part in federated runs."""
        return self._journal

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block become durable together, or none does. May not be nested."""
        with self._database.transaction():
            yield

    def close(self) -> None:
        """Closes the store and lets others have the home. May be called twice."""
        self._database.close()
