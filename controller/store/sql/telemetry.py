"""What devices told, in the database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Final

from sqlalchemy import ColumnElement, Select, Table, bindparam, func, insert, select

from controller.store.sql import tables
from controller.store.sql.session import Session, columns
from controller.telemetry.record import (
    StoredEvent,
    StoredReport,
    StoredResources,
    StoredWindow,
    WindowHead,
)

# Every upload asks these.
_CURSOR: Final = select(tables.cursors.c.through).where(
    tables.cursors.c.device == bindparam("of"), tables.cursors.c.spool == bindparam("in")
)
_REPORTS: Final = (
    select(tables.reports)
    .where(tables.reports.c.device == bindparam("of"))
    .order_by(tables.reports.c.counter.desc())
    .limit(bindparam("most"))
)
_WINDOWS: Final = tables.windows.c
_OF_VERSION: Final = (_WINDOWS.model == bindparam("of")) & (
    _WINDOWS.version == bindparam("numbered")
)
_NEWEST: Final = (
    select(tables.windows)
    .where(
        _OF_VERSION,
        _WINDOWS.device == bindparam("by"),
        _WINDOWS.profile_sha256 == bindparam("like"),
        _WINDOWS.ended_ms >= bindparam("since"),
    )
    .order_by(_WINDOWS.ended_ms.desc(), _WINDOWS.spool.desc(), _WINDOWS.sequence.desc())
)


_KNOWN: Final = select(_WINDOWS.spool, _WINDOWS.sequence, _WINDOWS.window_id).where(
    _WINDOWS.device == bindparam("by"),
    _WINDOWS.window_id.in_(bindparam("ids", expanding=True))
    | (
        (_WINDOWS.spool == bindparam("in"))
        & _WINDOWS.sequence.between(bindparam("first"), bindparam("last"))
    ),
)


def _tellers() -> Select[tuple[str]]:
    """Which devices have told of a version: one step down the index for each, however many windows."""
    first = select(func.min(_WINDOWS.device).label("device")).where(_OF_VERSION)
    found = first.cte("found", recursive=True)
    after = select(func.min(_WINDOWS.device)).where(_OF_VERSION, _WINDOWS.device > found.c.device)
    following = select(after.scalar_subquery()).where(found.c.device.is_not(None))
    every = found.union_all(following)
    return select(every.c.device).where(every.c.device.is_not(None))


_TELLERS: Final = _tellers()


def _heads() -> Select[tuple[object, ...]]:
    """Each teller's newest windows, by the index alone; more than one if they ended together."""
    teller, older = _TELLERS.subquery(), tables.windows.alias()
    last = select(func.max(older.c.ended_ms)).where(
        older.c.model == bindparam("of"),
        older.c.version == bindparam("numbered"),
        older.c.device == teller.c.device,
        older.c.ended_ms >= bindparam("since"),
    )
    ends = select(teller.c.device, last.scalar_subquery().label("ended_ms")).subquery()
    ended = (_WINDOWS.device == ends.c.device) & (_WINDOWS.ended_ms == ends.c.ended_ms)
    return (
        select(*(_WINDOWS[field.name] for field in fields(WindowHead)))
        .select_from(ends.join(tables.windows, ended & _OF_VERSION))
        .order_by(_WINDOWS.device, _WINDOWS.spool, _WINDOWS.sequence)
    )


_HEADS: Final = _heads()


class SqlTelemetry:
    """``controller.store.store.Telemetry``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def stored_through(self, device: str, spool: str) -> int:  # noqa: D102 - see the Protocol
        found = self._session.value(_CURSOR, {"of": device, "in": spool})
        return int(found or 0)

    def advance(  # noqa: D102
        self, device: str, spool: str, through: int, dropped: Mapping[str, int]
    ) -> None:
        row = {"device": device, "spool": spool, "through": through}
        self._session.raise_to(tables.cursors, row, "through")
        for kind, count in dropped.items():
            row = {"device": device, "spool": spool, "kind": kind, "count": count}
            self._session.raise_to(tables.dropped, row, "count")

    def dropped(self, device: str | None = None) -> Mapping[str, int]:  # noqa: D102
        table = tables.dropped.c
        query = select(table.kind, func.sum(table.count).label("total"))
        if device is not None:
            query = query.where(table.device == device)
        rows = self._session.all(query.group_by(table.kind).order_by(table.kind))
        return {row["kind"]: int(row["total"]) for row in rows}

    def add_windows(self, windows: Sequence[StoredWindow]) -> Sequence[StoredWindow]:  # noqa: D102
        known = {place for some in _by_spool(windows) for place in self._known(some)}
        new = []
        for one in windows:
            places = {(one.device, one.spool, one.sequence), (one.device, one.window_id)}
            if not places & known:
                new.append(one)
                known |= places
        self._session.add(tables.windows, [columns(one) for one in new])
        return new

    def _known(self, windows: Sequence[StoredWindow]) -> Iterator[tuple[object, ...]]:
        """What windows of one device's spool may clash with: sequences and ids that are there."""
        sequences = [one.sequence for one in windows]
        asked = {
            "by": windows[0].device,
            "in": windows[0].spool,
            "first": min(sequences),
            "last": max(sequences),
            "ids": [one.window_id for one in windows],
        }
        for row in self._session.all(_KNOWN, asked):
            yield windows[0].device, row["spool"], row["sequence"]
            yield windows[0].device, row["window_id"]

    def add_events(self, events: Sequence[StoredEvent]) -> None:  # noqa: D102
        self._session.add(tables.events, [columns(event) for event in events])

    def add_resources(self, resources: Sequence[StoredResources]) -> None:  # noqa: D102
        self._session.add(tables.resources, [columns(reading) for reading in resources])

    def add_report(self, report: StoredReport) -> None:  # noqa: D102
        self._session.run(insert(tables.reports), [columns(report)])

    def windows(  # noqa: D102
        self, model: str, version: int | None = None, device: str | None = None, since_ms: int = 0
    ) -> Sequence[StoredWindow]:
        table = tables.windows.c
        query = (
            select(tables.windows)
            .where(table.model == model, table.ended_ms >= since_ms)
            .order_by(table.ended_ms, table.device, table.spool, table.sequence)
        )
        if version is not None:
            query = query.where(table.version == version)
        if device is not None:
            query = query.where(table.device == device)
        return [StoredWindow(**row) for row in self._session.all(query)]

    def newest_windows(  # noqa: D102
        self, model: str, version: int, profile_sha256: str, rows: int, since_ms: int = 0
    ) -> Sequence[StoredWindow]:
        named = {"of": model, "numbered": version}
        found: list[StoredWindow] = []
        for teller in self._session.all(_TELLERS, named):
            asked = {"by": teller["device"], "like": profile_sha256, "since": since_ms}
            have = 0
            with self._session.run(_NEWEST, named | asked) as newest:
                for row in newest.mappings():
                    found.append(StoredWindow(**row))
                    have += row["rows"]
                    if have >= rows:
                        break
        return found

    def newest_heads(  # noqa: D102
        self, model: str, version: int, since_ms: int = 0
    ) -> Sequence[WindowHead]:
        asked = {"of": model, "numbered": version, "since": since_ms}
        newest = {row["device"]: WindowHead(**row) for row in self._session.all(_HEADS, asked)}
        return list(newest.values())

    def window_count(  # noqa: D102
        self, model: str | None = None, version: int | None = None, since_ms: int = 0
    ) -> int:
        query = select(func.count()).select_from(tables.windows)
        if model is not None:
            query = query.where(_WINDOWS.model == model)
        if version is not None:
            query = query.where(_WINDOWS.version == version)
        if since_ms:
            query = query.where(_WINDOWS.ended_ms >= since_ms)
        return int(self._session.value(query))

    def events(self, device: str | None = None, limit: int = 100) -> Sequence[StoredEvent]:  # noqa: D102
        query = select(tables.events).order_by(*_newest_first(tables.events)).limit(limit)
        if device is not None:
            query = query.where(tables.events.c.device == device)
        return [StoredEvent(**row) for row in self._session.all(query)]

    def resources(self, device: str, limit: int = 1) -> Sequence[StoredResources]:  # noqa: D102
        table = tables.resources
        query = select(table).where(table.c.device == device)
        rows = self._session.all(query.order_by(*_newest_first(table)).limit(limit))
        return [StoredResources(**row) for row in rows]

    def reports(self, device: str, limit: int = 100) -> Sequence[StoredReport]:  # noqa: D102
        rows = self._session.all(_REPORTS, {"of": device, "most": limit})
        return [StoredReport(**row) for row in rows]


def _by_spool(windows: Sequence[StoredWindow]) -> Iterable[Sequence[StoredWindow]]:
    found: dict[tuple[str, str], list[StoredWindow]] = {}
    for one in windows:
        found.setdefault((one.device, one.spool), []).append(one)
    return found.values()


def _newest_first(table: Table) -> list[ColumnElement[object]]:
    names = ("recorded_ms", "device", "spool", "sequence")
    return [table.c[name].desc() for name in names]
