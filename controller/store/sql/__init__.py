"""The controller's database over SQLAlchemy Core."""

from controller.store.sql.sql_store import SqlStore

__all__ = ["SqlStore"]
