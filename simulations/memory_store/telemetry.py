"""What devices told, in memory."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from controller.errors import Conflict
from controller.monitor.total import Total
from controller.telemetry.record import (
    StoredEvent,
    StoredReport,
    StoredResources,
    StoredWindow,
    WindowHead,
)
from simulations.memory_store.journal import Journal

Sequenced = TypeVar("Sequenced", StoredEvent, StoredResources)


@dataclass(frozen=True, slots=True)
class Told:
    """The tables that hold records."""

    windows: dict[str, dict[tuple[str, str, int], StoredWindow]] = field(default_factory=dict)
    window_ids: dict[tuple[str, str], None] = field(default_factory=dict)
    totals: dict[tuple[str, int, str], list[Total]] = field(default_factory=dict)
    events: dict[str, dict[tuple[str, int], StoredEvent]] = field(default_factory=dict)
    resources: dict[str, dict[tuple[str, int], StoredResources]] = field(default_factory=dict)
    reports: dict[str, tuple[StoredReport, ...]] = field(default_factory=dict)  # newest first


class MemoryTelemetry:
    """``controller.store.store.Telemetry``."""

    def __init__(self, journal: Journal, told: Told) -> None:
        self._journal = journal
        self._told = told
        self._through: dict[str, dict[str, int]] = {}  # by spool, then by device
        self._dropped: dict[tuple[str, str, str], int] = {}

    def stored_through(self, device: str, spool: str) -> int:  # noqa: D102 - see the Protocol
        known = self._through.get(spool)
        return 0 if known is None else known.get(device, 0)

    def advance(  # noqa: D102
        self, device: str, spool: str, through: int, dropped: Mapping[str, int]
    ) -> None:
        reached = max(through, self.stored_through(device, spool))
        self._journal.put(self._through.setdefault(spool, {}), device, reached)
        for kind, count in dropped.items():
            key = (device, spool, kind)
            self._journal.put(self._dropped, key, max(count, self._dropped.get(key, 0)))

    def dropped(self, device: str | None = None) -> Mapping[str, int]:  # noqa: D102
        totals: dict[str, int] = {}
        for (of, _, kind), count in sorted(self._dropped.items()):
            if device in {None, of}:
                totals[kind] = totals.get(kind, 0) + count
        return totals

    def add_windows(self, windows: Sequence[StoredWindow]) -> Sequence[StoredWindow]:  # noqa: D102
        new = []
        for window in windows:
            table = self._told.windows.setdefault(window.model, {})
            key = (window.device, window.spool, window.sequence)
            identity = (window.device, window.window_id)
            if key not in table and identity not in self._told.window_ids:
                self._journal.put(table, key, window)
                self._journal.put(self._told.window_ids, identity, None)
                new.append(window)
        return new

    def add_events(self, events: Sequence[StoredEvent]) -> None:  # noqa: D102
        _add(
            self._journal,
            self._told.events,
            [replace(one, fields=dict(one.fields)) for one in events],
        )

    def add_resources(self, resources: Sequence[StoredResources]) -> None:  # noqa: D102
        _add(self._journal, self._told.resources, resources)

    def add_report(self, report: StoredReport) -> None:  # noqa: D102
        known = self._told.reports.get(report.device, ())
        if report.counter in [one.counter for one in known]:
            raise Conflict(f"report {report.counter} of device {report.device!r} is there already")
        kept = (report, *known)
        if known and report.counter < known[0].counter:
            kept = tuple(sorted(kept, key=_counter, reverse=True))
        self._journal.put(self._told.reports, report.device, kept)

    def windows(  # noqa: D102
        self, model: str, version: int | None = None, device: str | None = None, since_ms: int = 0
    ) -> Sequence[StoredWindow]:
        found = (
            window
            for window in self._told.windows.get(model, {}).values()
            if version in {None, window.version}
            and device in {None, window.device}
            and window.ended_ms >= since_ms
        )
        return sorted(found, key=lambda one: (one.ended_ms, one.device, one.spool, one.sequence))

    def newest_windows(  # noqa: D102
        self, model: str, version: int, profile_sha256: str, rows: int, since_ms: int = 0
    ) -> Sequence[StoredWindow]:
        found: dict[str, list[StoredWindow]] = {}
        for window in reversed(self.windows(model, version, since_ms=since_ms)):
            newer = found.setdefault(window.device, [])
            if window.profile_sha256 == profile_sha256 and sum(one.rows for one in newer) < rows:
                newer.append(window)
        return [window for device in sorted(found) for window in found[device]]

    def newest_heads(  # noqa: D102
        self, model: str, version: int, since_ms: int = 0
    ) -> Sequence[WindowHead]:
        newest = {one.device: one for one in self.windows(model, version, since_ms=since_ms)}
        names = [field.name for field in fields(WindowHead)]
        return [
            WindowHead(**{name: getattr(newest[device], name) for name in names})
            for device in sorted(newest)
        ]

    def window_count(  # noqa: D102
        self, model: str | None = None, version: int | None = None, since_ms: int = 0
    ) -> int:
        return sum(
            window.ended_ms >= since_ms
            for name, windows in self._told.windows.items()
            for window in windows.values()
            if model in {None, name} and version in {None, window.version}
        )

    def events(self, device: str | None = None, limit: int = 100) -> Sequence[StoredEvent]:  # noqa: D102
        of = (
            [self._told.events.get(device, {})]
            if device is not None
            else self._told.events.values()
        )
        return _newest((event for table in of for event in table.values()), limit)

    def resources(self, device: str, limit: int = 1) -> Sequence[StoredResources]:  # noqa: D102
        return _newest(self._told.resources.get(device, {}).values(), limit)

    def reports(self, device: str, limit: int = 100) -> Sequence[StoredReport]:  # noqa: D102
        return self._told.reports.get(device, ())[:limit]


class MemoryRetention:
    """``controller.store.store.Retention`` in memory."""

    def __init__(self, journal: Journal, told: Told) -> None:
        self._journal = journal
        self._told = told

    def expire(self, before_ms: int, most: int) -> int:  # noqa: D102
        removed = 0
        for windows in self._told.windows.values():
            old = [key for key, one in windows.items() if one.ended_ms < before_ms]
            for key in old[: most - removed]:
                self._journal.remove(self._told.window_ids, (key[0], windows[key].window_id))
                self._journal.remove(windows, key)
                removed += 1
        for of, totals in list(self._told.totals.items()):
            gone = min(bisect_left(totals, before_ms, key=_ended_ms), most - removed)
            if gone:
                self._journal.put(self._told.totals, of, totals[gone:])
                removed += gone
        for table in self._told.events.values():
            removed += _expire(self._journal, table, before_ms, most - removed)
        for readings in self._told.resources.values():
            removed += _expire(self._journal, readings, before_ms, most - removed)
        return removed

    def trim_reports(self, device: str, keep: int, most: int) -> int:  # noqa: D102
        known = self._told.reports.get(device, ())
        gone = known[keep : keep + most]
        if gone:
            kept = known[:keep] + known[keep + most :]
            self._journal.put(self._told.reports, device, kept)
        return len(gone)


def _counter(report: StoredReport) -> int:
    return report.counter


def _ended_ms(total: Total) -> int:
    return total.ended_ms


def _add(
    journal: Journal,
    tables: dict[str, dict[tuple[str, int], Sequenced]],
    records: Iterable[Sequenced],
) -> None:
    for record in records:
        table = tables.setdefault(record.device, {})
        key = (record.spool, record.sequence)
        if key not in table:
            journal.put(table, key, record)


def _expire(
    journal: Journal, table: dict[tuple[str, int], Sequenced], before_ms: int, most: int
) -> int:
    old = [key for key, one in table.items() if one.recorded_ms < before_ms][:most]
    for key in old:
        journal.remove(table, key)
    return len(old)


def _newest(records: Iterable[Sequenced], limit: int) -> Sequence[Sequenced]:
    ordered = sorted(
        records,
        key=lambda one: (one.recorded_ms, one.device, one.spool, one.sequence),
        reverse=True,
    )
    return ordered[:limit]
