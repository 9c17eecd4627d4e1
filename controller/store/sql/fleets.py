"""Fleets' files in the database."""

from collections.abc import Sequence

from sqlalchemy import select

from controller.fleet_config.applied import AppliedFleet
from controller.store.sql import tables
from controller.store.sql.session import Session, columns


class SqlFleets:
    """``controller.store.store.Fleets``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, fleet: str) -> AppliedFleet | None:  # noqa: D102 - see the Protocol
        row = self._session.first(select(tables.fleets).where(tables.fleets.c.name == fleet))
        return None if row is None else AppliedFleet(**row)

    def all(self) -> Sequence[AppliedFleet]:  # noqa: D102
        rows = self._session.all(select(tables.fleets).order_by(tables.fleets.c.name))
        return [AppliedFleet(**row) for row in rows]

    def put(self, applied: AppliedFleet) -> None:  # noqa: D102
        self._session.put(tables.fleets, columns(applied))
