"""One open transaction on the database: runs statements, and says in our words what went wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, CursorResult, Insert, Table, case
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.sql import Executable

from controller.errors import Conflict, InvalidInput, StoreError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = Mapping[str, Any]


class Session:
    """Statements of one transaction.

    Every method raises ``Conflict`` where what is written contradicts what is stored,
    ``InvalidInput`` for a number that no column holds, and ``StoreError`` for the rest.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name

    def run(
        self, statement: Executable, rows: "Row | Sequence[Row] | None" = None
    ) -> CursorResult[Any]:
        """Executes the statement: once, or once for each of ``rows``."""
        try:
            return self._connection.execute(statement, rows)
        except IntegrityError as error:
            raise Conflict(f"it contradicts what is stored: {error.orig}") from error
        except SQLAlchemyError as error:
            raise StoreError(reason(error)) from error
        except OverflowError as error:
            raise InvalidInput(f"a number is too large to be stored: {error}") from error

    def all(self, statement: Executable, values: Row | None = None) -> Sequence[Row]:
        """The rows, as mappings by column. ``values`` are those of its ``bindparam``s."""
        return cast("Sequence[Row]", self.run(statement, values).mappings().all())

    def first(self, statement: Executable, values: Row | None = None) -> Row | None:
        """The first row, or None."""
        return cast("Row | None", self.run(statement, values).mappings().first())

    def value(self, statement: Executable, values: Row | None = None) -> Any:
        """The first column of the first row, or None."""
        return self.run(statement, values).scalar()

    def add(self, table: Table, rows: Sequence[Row]) -> int:
        """Inserts the rows that are not there yet; returns how many were not."""
        if not rows:
            return 0
        return self.run(_insert_new(table, self._dialect), rows).rowcount

    def put(self, table: Table, row: Row) -> None:
        """Inserts the row, or replaces the one with its primary key."""
        self.run(_upsert(table, tuple(row), self._dialect), [row])

    def put_all(self, table: Table, rows: Sequence[Row]) -> None:
        """``put``, of many rows with the same columns."""
        if rows:
            self.run(_upsert(table, tuple(rows[0]), self._dialect), rows)

    def raise_to(self, table: Table, row: Row, column: str) -> None:
        """Like ``put``, but of the column's old and new values the greater stays."""
        self.run(_upsert(table, tuple(row), self._dialect, column), [row])


def _insert(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


# Statements are values, and building one costs more than running it.


@cache
def _insert_new(table: Table, dialect: str) -> Insert:
    return _insert(table, dialect).on_conflict_do_nothing()


@cache
def _upsert(table: Table, names: tuple[str, ...], dialect: str, raised: str = "") -> Insert:
    insert = _insert(table, dialect)
    keys = [column.name for column in table.primary_key]
    changes: dict[str, ColumnElement[Any]] = {
        name: insert.excluded[name] for name in names if name not in keys
    }
    if raised:
        old, new = table.c[raised], insert.excluded[raised]
        changes[raised] = case((new > old, new), else_=old)
    return insert.on_conflict_do_update(index_elements=keys, set_=changes)


def columns(value: "DataclassInstance | msgspec.Struct") -> dict[str, Any]:
    """A frozen value's fields, by name: what its row holds."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}


def reason(error: SQLAlchemyError) -> str:
    """What the database said, without the statement and its values."""
    return str(getattr(error, "orig", None) or type(error).__name__)
