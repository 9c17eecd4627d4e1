"""Notes which devices have changed in a transaction, which has one revision."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import func, select

from controller.store.sql import tables
from controller.store.sql.session import Session

REVISION: Final = select(func.max(tables.changes.c.revision))


class Noted:
    """What ``SqlChanges`` tells of, noted by all tables of a transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._revision = 0
        self._devices: set[str] = set()

    def note(self, devices: Iterable[str]) -> None:
        """Something of these has changed."""
        new = set(devices) - self._devices
        if new:
            self._revision = self._revision or 1 + int(self._session.value(REVISION) or 0)
            self._devices |= new
            rows = [{"device": device, "revision": self._revision} for device in sorted(new)]
            self._session.put_all(tables.changes, rows)
