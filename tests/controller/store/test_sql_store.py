"""What the database adds to the contract: its file, restarts, other writers and tampering."""

import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from controller.audit import Entry, broken_at
from controller.errors import Conflict, InvalidInput, StoreError
from controller.fleet.device import Device
from controller.store.sql import SqlStore
from tests.controller.store.database import DEVICE, TOKEN, opened


def test_only_the_owner_can_read_the_database_and_its_journals(tmp_path: Path) -> None:
    (tmp_path / "muster.db").touch(mode=0o644)
    store = opened(tmp_path)
    with store.begin() as tx:
        tx.tokens.put(TOKEN)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()

    assert modes["muster.db"] == 0o600
    assert set(modes.values()) == {0o600}


def test_every_connection_is_durable_and_checks_references(tmp_path: Path) -> None:
    store = opened(tmp_path)

    with store.begin() as tx:
        run = tx.devices._session._connection.exec_driver_sql
        settings = {
            name: run(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    store.close()

    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://user:hunter2@host/muster"],
)
def test_a_url_that_names_no_file_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:////FOLDER/FILE") as refused:
        SqlStore.open(url)

    assert "hunter2" not in str(refused.value)


def test_who_only_reads_waits_for_no_writer_and_keeps_its_moment(tmp_path: Path) -> None:
    store = opened(tmp_path)
    began, written, seen = threading.Event(), threading.Event(), []

    def look() -> None:
        with store.read() as tx:
            began.set()
            assert written.wait(timeout=10)
            seen.append(list(tx.tokens.all()))

    reader = threading.Thread(target=look)
    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        reader.start()
        assert began.wait(timeout=10)
    written.set()
    reader.join(timeout=10)

    assert seen == [[]]
    with store.read() as tx:
        assert list(tx.tokens.all()) == [TOKEN]
    store.close()


def test_other_writers_are_kept_out_from_the_beginning_of_a_transaction(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with (
        first.begin(),
        closing(sqlite3.connect(tmp_path / "muster.db", timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")
    first.close()


def make_a_folder(path: Path) -> None:
    path.mkdir()


def make_another_file(path: Path) -> None:
    path.write_bytes(b"this is a letter to a friend, and no database at all. " * 100)


def make_another_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE devices (name TEXT)")


@pytest.mark.parametrize("make", [make_a_folder, make_another_file, make_another_database])
def test_what_is_no_database_of_ours_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "muster.db")

    with pytest.raises(StoreError, match=r"muster\.db"):
        opened(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        opened(tmp_path / "nowhere")


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        tx.devices.put(DEVICE)
        tx.metadata.put("root", 1, b"one")
        tx.telemetry.advance("dev-1", "spool", 7, {"window": 2})
        last = tx.audit.append(Entry("ada", "token.create", "t1"), 1)
    store.close()

    reopened = opened(tmp_path)
    with reopened.begin() as tx:
        assert tx.tokens.get("t1") == TOKEN
        assert tx.devices.get("dev-1") == DEVICE
        assert tx.metadata.current("root") == b"one"
        assert tx.telemetry.stored_through("dev-1", "spool") == 7
        assert tx.telemetry.dropped("dev-1") == {"window": 2}
        assert tx.audit.last() == last
    reopened.close()


def test_two_stores_on_one_file_append_to_one_chain(tmp_path: Path) -> None:
    stores = [opened(tmp_path), opened(tmp_path)]
    start = threading.Barrier(2)

    def write(store: SqlStore) -> None:
        start.wait(timeout=10)
        for turn in range(10):
            with store.begin() as tx:
                tx.audit.append(Entry("ada", "count", "x"), turn)

    threads = [threading.Thread(target=write, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    with stores[0].begin() as tx:
        records = list(tx.audit.records())
    for store in stores:
        store.close()
    assert len(records) == 20
    assert broken_at(records) is None


def test_who_follows_changes_misses_none_while_two_stores_write(tmp_path: Path) -> None:
    stores = [opened(tmp_path), opened(tmp_path)]
    start = threading.Barrier(3)

    def write(number: int) -> None:
        start.wait(timeout=10)
        for turn in range(15):
            with stores[number].begin() as tx:
                for name in (f"dev-{number}-{turn}", "shared"):
                    labels = {"site": f"{number}-{turn}"}
                    tx.devices.put(replace(DEVICE, id=name, labels=labels))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    start.wait(timeout=10)
    followed: dict[str, Device] = {}
    revision, done = 0, False
    while not done:
        done = not any(thread.is_alive() for thread in threads)
        with stores[0].read() as tx:
            changed = tx.changes.since(revision)
        followed |= {device.id: device for device in changed.devices}
        revision = changed.revision

    with stores[1].read() as tx:
        expected = {device.id: device for device in tx.devices.all()}
    for store in stores:
        store.close()
    assert len(expected) == 31
    assert followed == expected


def test_a_number_that_no_column_holds_is_bad_input_and_nothing_is_written(tmp_path: Path) -> None:
    store = opened(tmp_path)

    with pytest.raises(InvalidInput), store.begin() as tx:
        tx.telemetry.advance("dev-1", "spool", 2**64 - 1, {})

    with store.begin() as tx:
        assert tx.telemetry.stored_through("dev-1", "spool") == 0
    store.close()


def test_a_conflict_may_be_caught_inside_the_block(tmp_path: Path) -> None:
    store = opened(tmp_path)

    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        with pytest.raises(Conflict):
            tx.registry.put_alias("digits", "champion", 1)

    with store.begin() as tx:
        assert tx.tokens.get("t1") == TOKEN
    store.close()


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE sequence = 3", 3),
        ("UPDATE audit SET at = at + 1 WHERE sequence = 2", 2),
        ("""UPDATE audit SET detail = '{"n":"9"}' WHERE sequence = 4""", 4),
        ("UPDATE audit SET digest = previous WHERE sequence = 1", 1),
        ("DELETE FROM audit WHERE sequence = 1", 1),
        ("DELETE FROM audit WHERE sequence = 3", 3),
        (
            """UPDATE audit SET sequence = CASE sequence WHEN 2 THEN -3 WHEN 3 THEN -2 END
               WHERE sequence IN (2, 3);
               UPDATE audit SET sequence = -sequence WHERE sequence < 0""",
            2,
        ),
    ],
    ids=["actor", "time", "detail", "digest", "first removed", "one removed", "reordered"],
)
def test_tampering_with_the_audit_is_found_where_it_was_done(
    tmp_path: Path, tampering: str, broken: int
) -> None:
    store = opened(tmp_path)
    for number in range(5):
        with store.begin() as tx:
            tx.audit.append(Entry("ada", "count", "x", {"n": str(number)}), number)
    with store.begin() as tx:
        assert broken_at(tx.audit.records()) is None

    with closing(sqlite3.connect(tmp_path / "muster.db")) as database:
        database.executescript(tampering)

    with store.begin() as tx:
        assert broken_at(tx.audit.records()) == broken
    store.close()
