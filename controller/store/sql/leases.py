"""Leases in the database."""

from sqlalchemy import delete, select

from controller.lease import Lease, asked
from controller.store.sql import tables
from controller.store.sql.session import Session, columns


class SqlLeases:
    """``controller.store.store.Leases``. Only one transaction writes at a time: see ``SqlStore``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def acquire(self, name: str, holder: str, now: float, seconds: float) -> bool:  # noqa: D102 - see the Protocol
        known = self._get(name)
        stands = asked(known, Lease(name, holder, now, now + seconds))
        if stands != known:
            self._session.put(tables.leases, columns(stands))
        return stands.holder == holder

    def holder(self, name: str, now: float) -> str | None:  # noqa: D102
        known = self._get(name)
        return None if known is None or now >= known.until else known.holder

    def release(self, name: str, holder: str) -> None:  # noqa: D102
        table = tables.leases
        held = (table.c.name == name) & (table.c.holder == holder)
        self._session.run(delete(table).where(held))

    def _get(self, name: str) -> Lease | None:
        table = tables.leases
        row = self._session.first(select(table).where(table.c.name == name))
        return None if row is None else Lease(**row)
