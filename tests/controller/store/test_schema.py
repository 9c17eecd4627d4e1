"""The schema is what the code describes, and comes from every schema before it."""

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from controller.errors import StoreError
from controller.rollout.policy import AT_ONCE
from controller.rollout.rollout import Member
from controller.store.sql import migrations, tables
from protos.documents import MAX_SOAK_SECONDS
from tests.controller.store.database import DEVICE, opened

MIGRATIONS = Path(migrations.__file__).parent


def test_the_migrated_schema_is_the_one_that_the_code_describes(tmp_path: Path) -> None:
    opened(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path}/muster.db")

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, tables.metadata)
    engine.dispose()

    assert differences == []


def schema(folder: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(folder / "muster.db")) as database:
        return database.execute(
            "SELECT type, name, sql FROM sqlite_master ORDER BY name"
        ).fetchall()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    opened(tmp_path).close()
    first = schema(tmp_path)

    opened(tmp_path).close()

    assert schema(tmp_path) == first
    assert len(first) > len(tables.metadata.tables)


def test_a_database_that_a_newer_version_has_used_is_refused_untouched(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "muster.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = schema(tmp_path)

    with pytest.raises(StoreError, match=r"9999.*newer"):
        opened(tmp_path)

    assert schema(tmp_path) == before


def made_before(folder: Path, revision: str) -> None:
    """A database as the versions before left it."""
    script = ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS)])
    missing = list(script.iterate_revisions(revision, (), implicit_base=True))
    steps = [MigrationStep.upgrade_from_script(script.revision_map, one) for one in missing[::-1]]
    engine = create_engine(f"sqlite:///{folder}/muster.db")
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"fn": lambda *_: steps})
        with Operations.context(context):
            context.run_migrations()
    engine.dispose()


def test_a_fleet_that_enrolled_before_time_online_was_counted_is_found_whole(
    tmp_path: Path,
) -> None:
    made_before(tmp_path, "0005")
    row = ("dev-1", 1.0, b"pem", "ff", 2.0, "active", '{"site": "oslo"}', "{}", 3, 9e8, 1)
    with closing(sqlite3.connect(tmp_path / "muster.db")) as database, database:
        database.execute("INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    store = opened(tmp_path)
    with store.begin() as tx:
        tx.devices.disconnect_all()
        tx.devices.put(replace(DEVICE, id="dev-2"))
    with store.read() as tx:
        first, second = tx.devices.all()
        assert sorted(tx.changes.since(0).ids) == ["dev-1", "dev-2"]
    store.close()

    assert first == replace(DEVICE, labels={"site": "oslo"}, counter=3, last_seen=9e8)
    assert second.id == "dev-2"


def test_rollouts_from_before_stages_go_on_with_everybody_released_at_once(tmp_path: Path) -> None:
    """A plan then releases their devices anew, and wants nothing else of them."""
    made_before(tmp_path, "0006")
    with closing(sqlite3.connect(tmp_path / "muster.db")) as database, database:
        for number, state in enumerate(("running", "succeeded", "failed", "aborted")):
            database.execute(
                "INSERT INTO rollouts (id, model, version, selector, state, created_at, created_by, "
                "slot, ended_at) VALUES (?, 'digits', 1, 'all', ?, ?, 'ada', 'champion', 0)",
                (f"r{number}", state, number),
            )
        database.execute(
            "INSERT INTO wanted (device, model, slot, version, rollout, assigned_at) "
            "VALUES ('dev-1', 'digits', 'champion', 1, 'r0', 1.0)"
        )
        database.execute(
            "INSERT INTO standings (rollout, device, outcome, doing, code, detail) "
            "VALUES ('r1', 'dev-1', 'ok', 'committed', '', '')"
        )

    store = opened(tmp_path)
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        rollouts = {one.id: one for one in tx.rollouts.all()}
        (row,) = tx.rollouts.wanted()
        (stood,) = tx.rollouts.standings("r1")
        tx.stages.put_members([Member("r0", "dev-1", 0, deferred_at=4.0)])
        (member,) = tx.stages.members()
    store.close()

    states = [rollouts[f"r{number}"].state.value for number in range(4)]
    assert states == ["running", "succeeded", "aborted", "aborted"]
    assert {one.policy for one in rollouts.values()} == {AT_ONCE}
    assert (row.attempt, stood.stage, stood.soaks_until) == (1, 0, 0.0)
    assert member.deferred_at == 4.0


def test_devices_and_rollouts_from_before_soaks_were_reported_have_reported_none(
    tmp_path: Path,
) -> None:
    made_before(tmp_path, "0010")
    with closing(sqlite3.connect(tmp_path / "muster.db")) as database, database:
        database.execute(
            "INSERT INTO devices (id, enrolled_at, public_key_pem, certificate_serial, "
            "certificate_expires, status, labels, facts, counter, last_seen, connected, "
            "connected_since, online_seconds, revision) "
            "VALUES ('dev-1', 1, x'00', '01', 2, 'active', '{}', '{}', 0, 0, 0, 0, 0, 1)"
        )
        database.execute(
            "INSERT INTO slots (device, model, slot, running, version, state, manifest_sha256, "
            "model_sha256, approvals, generation, counter, reported_at, code, detail) "
            "VALUES ('dev-1', 'digits', 'champion', 1, 1, 'committed', '', '', 1, 1, 1, 1, '', '')"
        )
        database.execute(
            "INSERT INTO wanted (device, model, slot, version, rollout, assigned_at, attempt) "
            "VALUES ('dev-1', 'digits', 'champion', 1, 'r0', 1.0, 1)"
        )

    store = opened(tmp_path)
    with store.begin() as tx:
        (slot,), (row,) = tx.devices.slots(), tx.rollouts.wanted()
        tx.devices.replace_slots("dev-1", [msgspec.structs.replace(slot, soaked=MAX_SOAK_SECONDS)])
    with store.read() as tx:
        (after,) = tx.devices.slots("dev-1")
    store.close()

    assert (slot.soaked, row.soak_seconds) == (0, 0)
    assert after.soaked == MAX_SOAK_SECONDS


def test_two_stores_that_open_a_new_database_at_once_make_it_once(tmp_path: Path) -> None:
    start = threading.Barrier(2)
    failures: list[StoreError] = []

    def open_and_close() -> None:
        start.wait(timeout=10)
        try:
            opened(tmp_path).close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_and_close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert failures == []
    with opened(tmp_path).begin() as tx:
        assert list(tx.devices.all()) == []
