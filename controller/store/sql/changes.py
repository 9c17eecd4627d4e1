"""Which devices have changed, in the database."""

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import bindparam, func, select

from controller.store.sql import tables
from controller.store.sql.session import Session

_REVISION: Final = select(func.max(tables.changes.c.revision))
_SINCE: Final = select(tables.changes.c.device).where(
    tables.changes.c.revision > bindparam("known")
)


class SqlChanges:
    """``controller.store.store.Changes``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next = 0
        self._noted: set[str] = set()

    def note(self, devices: Iterable[str]) -> None:
        """Something of these has changed: in this transaction, which has one revision."""
        new = set(devices) - self._noted
        if new:
            self._next = self._next or 1 + self._revision()
            self._noted |= new
            rows = [{"device": device, "revision": self._next} for device in sorted(new)]
            self._session.put_all(tables.changes, rows)

    def since(self, revision: int) -> tuple[Collection[str], int]:  # noqa: D102 - see the Protocol
        rows = self._session.run(_SINCE, {"known": revision})
        return {row[0] for row in rows}, self._revision()

    def _revision(self) -> int:
        return int(self._session.value(_REVISION) or 0)
