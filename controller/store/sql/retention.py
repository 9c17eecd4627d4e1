"""Ends of what devices told, in the database."""

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from controller.store.sql import tables
from controller.store.sql.session import Session


class SqlRetention:
    """``controller.store.store.Retention``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def expire(self, before_ms: int, most: int) -> int:  # noqa: D102 - see the Protocol
        ended = (
            (tables.windows, tables.windows.c.ended_ms),
            (tables.totals, tables.totals.c.ended_ms),
            (tables.events, tables.events.c.recorded_ms),
            (tables.resources, tables.resources.c.recorded_ms),
        )
        removed = 0
        for table, time in ended:
            if removed < most:
                removed += self._remove(table, time < before_ms, most - removed)
        return removed

    def trim_reports(self, device: str, keep: int, most: int) -> int:  # noqa: D102
        table = tables.reports.c
        of_device = select(table.counter).where(table.device == device)
        newest = of_device.order_by(table.counter.desc())
        first_gone = newest.offset(keep).limit(1).scalar_subquery()
        beyond = (table.device == device) & (table.counter <= first_gone)
        return self._remove(tables.reports, beyond, most)

    def _remove(self, table: Table, which: ColumnElement[bool], most: int) -> int:
        """Removes ``most`` of the rows at once: a large delete would hold up every writer."""
        keys = tuple_(*table.primary_key)
        some = select(*table.primary_key).where(which).limit(most)
        return self._session.run(delete(table).where(keys.in_(some))).rowcount
