"""Models, their versions and the image metadata in the database."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select

from controller.errors import Conflict
from controller.registry.version import Change, Model, Pending, State, Version
from controller.store.metadata_name import role_and_version
from controller.store.sql import tables
from controller.store.sql.session import Row, Session, columns
from controller.store.store import METADATA_KEPT, ONLINE_ROLES


class SqlRegistry:
    """``controller.store.store.Registry``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def model(self, name: str) -> Model | None:  # noqa: D102 - see the Protocol
        row = self._session.first(select(tables.models).where(tables.models.c.name == name))
        return None if row is None else Model(**row)

    def models(self) -> Sequence[Model]:  # noqa: D102
        rows = self._session.all(select(tables.models).order_by(tables.models.c.name))
        return [Model(**row) for row in rows]

    def put_model(self, model: Model) -> None:  # noqa: D102
        self._session.put(tables.models, columns(model))

    def version(self, model: str, version: int) -> Version | None:  # noqa: D102
        table = tables.versions
        row = self._session.first(
            select(table).where(table.c.model == model, table.c.version == version)
        )
        return None if row is None else _version(row)

    def versions(self, model: str | None = None) -> Sequence[Version]:  # noqa: D102
        table = tables.versions
        query = select(table).order_by(table.c.model, table.c.version)
        if model is not None:
            query = query.where(table.c.model == model)
        return [_version(row) for row in self._session.all(query)]

    def put_version(self, version: Version) -> None:  # noqa: D102
        self._session.put(tables.versions, columns(version))

    def pending(self, model: str, version: int) -> Pending | None:  # noqa: D102
        table = tables.pending
        row = self._session.first(
            select(table).where(table.c.model == model, table.c.version == version)
        )
        return None if row is None else _pending(row)

    def all_pending(self, model: str | None = None) -> Sequence[Pending]:  # noqa: D102
        table = tables.pending
        query = select(table).order_by(table.c.model, table.c.version)
        if model is not None:
            query = query.where(table.c.model == model)
        return [_pending(row) for row in self._session.all(query)]

    def put_pending(self, pending: Pending) -> None:  # noqa: D102
        self._session.put(tables.pending, columns(pending))

    def remove_pending(self, model: str, version: int) -> None:  # noqa: D102
        table = tables.pending
        self._session.run(delete(table).where(table.c.model == model, table.c.version == version))

    def aliases(self, model: str) -> Mapping[str, int]:  # noqa: D102
        table = tables.aliases
        rows = self._session.all(
            select(table).where(table.c.model == model).order_by(table.c.alias)
        )
        return {row["alias"]: row["version"] for row in rows}

    def put_alias(self, model: str, alias: str, version: int) -> None:  # noqa: D102
        row = {"model": model, "alias": alias, "version": version}
        self._session.put(tables.aliases, row)

    def remove_alias(self, model: str, alias: str) -> None:  # noqa: D102
        table = tables.aliases
        self._session.run(delete(table).where(table.c.model == model, table.c.alias == alias))


def _version(row: Row) -> Version:
    return Version(**{**row, "state": State(row["state"]), "reasons": tuple(row["reasons"])})


def _pending(row: Row) -> Pending:
    known = {"change": Change(row["change"]), "signed_by": tuple(row["signed_by"])}
    return Pending(**{**row, **known})


class SqlImageMetadata:
    """``controller.store.store.ImageMetadata``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, name: str) -> bytes | None:  # noqa: D102
        match role_and_version(name):
            case (role, None):
                return self.current(role)
            case (role, int(version)):
                return self._file(role, version)
            case _:
                return None

    def current(self, role: str) -> bytes | None:  # noqa: D102
        return self._file(role, self._newest(role))

    def put(self, role: str, version: int, metadata: bytes) -> None:  # noqa: D102
        known = self._file(role, version)
        if known is None and version <= self._newest(role):
            raise Conflict(f"version {version} of {role!r} is older than the current one")
        if known not in {None, metadata}:
            raise Conflict(f"version {version} of {role!r} is there already, with other content")
        row = {"role": role, "version": version, "metadata": metadata}
        self._session.put(tables.image_metadata, row)
        if role in ONLINE_ROLES:
            table = tables.image_metadata.c
            beyond = (table.role == role) & (table.version <= version - METADATA_KEPT)
            self._session.run(delete(tables.image_metadata).where(beyond))

    def _file(self, role: str, version: int) -> bytes | None:
        table = tables.image_metadata.c
        found = self._session.value(
            select(table.metadata).where(table.role == role, table.version == version)
        )
        return None if found is None else bytes(found)

    def _newest(self, role: str) -> int:
        table = tables.image_metadata.c
        return int(
            self._session.value(select(func.max(table.version)).where(table.role == role)) or 0
        )
