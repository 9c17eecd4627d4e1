"""The audit chain in the database."""

from collections.abc import Sequence

from sqlalchemy import insert, select

from controller.audit import Entry, Record, chain
from controller.store.sql import tables
from controller.store.sql.session import Row, Session, columns
from controller.telemetry.record import Rejections


class SqlAudit:
    """``controller.store.store.Audit``: one row a record; a sequence can be taken only once."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, entry: Entry, at_ms: int) -> Record:  # noqa: D102 - see the Protocol
        record = chain(entry, at_ms, self.last())
        row = {
            "sequence": record.sequence,
            "at": record.at,
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": dict(entry.detail),
            "previous": record.previous,
            "digest": record.digest,
        }
        self._session.run(insert(tables.audit), [row])
        return record

    def last(self) -> Record | None:  # noqa: D102
        table = tables.audit
        row = self._session.first(select(table).order_by(table.c.sequence.desc()).limit(1))
        return None if row is None else _record(row)

    def records(self, after: int = 0, limit: int = 1000) -> Sequence[Record]:  # noqa: D102
        table = tables.audit
        query = select(table).where(table.c.sequence > after)
        rows = self._session.all(query.order_by(table.c.sequence).limit(limit))
        return [_record(row) for row in rows]

    def rejections(self, device: str, action: str) -> Rejections | None:  # noqa: D102
        table = tables.rejections
        row = self._session.first(
            select(table).where(table.c.device == device, table.c.action == action)
        )
        return None if row is None else Rejections(**row)

    def put_rejections(self, rejections: Rejections) -> None:  # noqa: D102
        self._session.put(tables.rejections, columns(rejections))


def _record(row: Row) -> Record:
    entry = Entry(row["actor"], row["action"], row["subject"], row["detail"])
    return Record(row["sequence"], row["at"], entry, row["previous"], row["digest"])
