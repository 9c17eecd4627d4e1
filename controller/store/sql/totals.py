"""What devices have told in all, in the database."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import BigInteger, Select, Text, bindparam, column, insert, select, values

from agent.inference.latency import BUCKETS
from controller.monitor.estimator import Estimator
from controller.monitor.total import Sums, Total
from controller.store.sql import tables
from controller.store.sql.session import Row, Session, columns

_ASKED: Final = 400  # devices in one statement; each takes two of the values that one may have
_TOTALS: Final = tables.totals.c
_LAST: Final = (
    select(tables.totals)
    .where(
        _TOTALS.model == bindparam("of"),
        _TOTALS.version == bindparam("numbered"),
        _TOTALS.device == bindparam("by"),
    )
    .order_by(_TOTALS.ended_ms.desc())
    .limit(1)
)

_ADD: Final = insert(tables.totals)
_ESTIMATOR: Final = select(tables.estimators).where(
    tables.estimators.c.model == bindparam("of"),
    tables.estimators.c.version == bindparam("numbered"),
)


class SqlTotals:
    """``controller.store.store.Totals``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def estimator(self, model: str, version: int) -> Estimator | None:  # noqa: D102 - see the Protocol
        row = self._session.first(_ESTIMATOR, {"of": model, "numbered": version})
        if row is None:
            return None
        kept = {name: value for name, value in row.items() if name not in {"model", "version"}}
        return Estimator(**{**kept, "right": tuple(kept["right"])})

    def put_estimator(self, model: str, version: int, estimator: Estimator) -> None:  # noqa: D102
        row = {"model": model, "version": version, **columns(estimator)}
        self._session.put(tables.estimators, row)

    def last(self, device: str, model: str, version: int) -> Total | None:  # noqa: D102
        row = self._session.first(_LAST, {"of": model, "numbered": version, "by": device})
        return None if row is None else Total(**{**row, "sums": _read(row["sums"])})

    def add(self, total: Total) -> None:  # noqa: D102
        row = {**columns(total), "sums": [*total.sums.plain, *total.sums.latency_counts]}
        self._session.run(_ADD, row)

    def since(  # noqa: D102
        self, model: str, version: int, ends: Mapping[str, int]
    ) -> Mapping[str, Sums]:
        found: dict[str, Sums] = {}
        for some in _portions(ends):
            rows = self._session.all(_newest_and_base(some), {"of": model, "numbered": version})
            found |= _differences(rows)
        return found


def _portions(ends: Mapping[str, int]) -> Iterator[list[tuple[str, int]]]:
    left = iter(ends.items())
    while some := list(islice(left, _ASKED)):
        yield some


def _newest_and_base(asked: Sequence[tuple[str, int]]) -> Select[Any]:
    """Of each device its newest total if it ended after its time, and the newest before that.

    Two steps down the key for each device: whatever the planner thinks of a join, these it can't
    reorder.
    """
    said = values(column("device", Text), column("ended", BigInteger), name="asked")
    ends = said.data(asked).cte("asked")
    newest_first = (
        select(_TOTALS.sums)
        .where(
            _TOTALS.model == bindparam("of"),
            _TOTALS.version == bindparam("numbered"),
            _TOTALS.device == ends.c.device,
        )
        .order_by(_TOTALS.ended_ms.desc())
        .limit(1)
    )
    newest = newest_first.where(_TOTALS.ended_ms > ends.c.ended)
    base = newest_first.where(_TOTALS.ended_ms <= ends.c.ended)
    return select(
        ends.c.device,
        newest.scalar_subquery().label("newest"),
        base.scalar_subquery().label("base"),
    )


def _differences(rows: Sequence[Row]) -> dict[str, Sums]:
    return {
        row["device"]: _read(row["newest"]) - (_read(row["base"]) if row["base"] else Sums())
        for row in rows
        if row["newest"]
    }


def _read(written: Sequence[Any]) -> Sums:
    return Sums.of(written[:-BUCKETS], written[-BUCKETS:])
