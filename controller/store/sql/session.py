"""One open transaction on the database: runs statements, and says in our words what went wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, CursorResult, Table
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

    def run(self, statement: Executable, rows: Sequence[Row] | None = None) -> CursorResult[Any]:
        """Executes the statement: once, or once for each of ``rows``."""
        try:
            return self._connection.execute(statement, rows)
        except IntegrityError as error:
            raise Conflict(f"it contradicts what is stored: {error.orig}") from error
        except SQLAlchemyError as error:
            raise StoreError(reason(error)) from error
        except OverflowError as error:
            raise InvalidInput(f"a number is too large to be stored: {error}") from error

    def all(self, statement: Executable) -> Sequence[Row]:
        """The rows, as mappings by column."""
        return cast("Sequence[Row]", self.run(statement).mappings().all())

    def first(self, statement: Executable) -> Row | None:
        """The first row, or None."""
        return cast("Row | None", self.run(statement).mappings().first())

    def value(self, statement: Executable) -> Any:
        """The first column of the first row, or None."""
        return self.run(statement).scalar()

    def add(self, table: Table, rows: Sequence[Row]) -> int:
        """Inserts the rows that are not there yet; returns how many were not."""
        if not rows:
            return 0
        statement = self._insert(table).on_conflict_do_nothing()
        return self.run(statement, rows).rowcount

    def put(self, table: Table, row: Row) -> None:
        """Inserts the row, or replaces the one with its primary key."""
        insert = self._insert(table)
        keys = [column.name for column in table.primary_key]
        changes = {name: insert.excluded[name] for name in row if name not in keys}
        self.run(insert.on_conflict_do_update(index_elements=keys, set_=changes), [row])

    def _insert(self, table: Table) -> "sqlite.Insert | postgresql.Insert":
        if self._connection.dialect.name == "postgresql":
            return postgresql.insert(table)
        return sqlite.insert(table)


def columns(value: "DataclassInstance") -> dict[str, Any]:
    """A frozen value's fields, by name: what its row holds."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def reason(error: SQLAlchemyError) -> str:
    """What the database said, without the statement and its values."""
    return str(getattr(error, "orig", None) or type(error).__name__)
