"""Brings a database to the schema that this code knows: Alembic, without its command line.

Revisions stand in ``migrations/``, each a module with ``revision``, ``down_revision`` and
``upgrade()``; there is no way down.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from controller.errors import StoreError
from controller.store.sql import tables

_FOLDER: Final = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> None:
    """Applies every revision that the database lacks, within the connection's transaction.

    Raises:
        StoreError: a newer Muster has changed the database.
    """
    script = ScriptDirectory(str(_FOLDER), version_locations=[str(_FOLDER)])

    def missing(heads: tuple[str, ...], _: MigrationContext) -> list[MigrationStep]:
        known = {revision.revision for revision in script.walk_revisions()}
        if not known.issuperset(heads):
            raise StoreError(
                f"the database is of schema {', '.join(heads)}, which this version does not know: "
                "it was used by a newer one"
            )
        return list(_steps(script, heads))

    context = MigrationContext.configure(
        connection, opts={"target_metadata": tables.metadata, "fn": missing}
    )
    with Operations.context(context):
        context.run_migrations()


def _steps(script: ScriptDirectory, heads: tuple[str, ...]) -> Iterator[MigrationStep]:
    revisions = list(script.iterate_revisions("heads", heads, implicit_base=True))
    for revision in reversed(revisions):
        yield MigrationStep.upgrade_from_script(script.revision_map, revision)
