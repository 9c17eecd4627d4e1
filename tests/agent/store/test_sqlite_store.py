import fcntl
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils.db import Database

from agent.errors import DiskFull, HomeInUse, StoreCorrupt, StoreError, StoreTooNew
from agent.store import migrations
from agent.store.database import DATABASE_NAME, LOCK_NAME, connect
from agent.store.device_store import Identity
from agent.store.migrations import MIGRATIONS, migrate
from agent.store.sqlite_store import SqliteStore
from tests.agent.store.kill_writers import write

ROOT = Path(__file__).resolve().parents[3]

# What version 1 looks like for ever: devices have it. A change is a new migration, never here.
VERSION_1 = """\
directive: id INTEGER, generation INTEGER, envelope BLOB
facts: name TEXT, value TEXT
identity: id INTEGER, record TEXT
installs: model TEXT, slot TEXT, record TEXT
quarantine: sha256 TEXT, code TEXT, detail TEXT, at REAL
slots: model TEXT, slot TEXT, record TEXT
spool: sequence INTEGER, kind TEXT, recorded_ms INTEGER, size INTEGER, payload BLOB
spool_dropped: kind TEXT, count INTEGER
trust_floors: model TEXT, floor INTEGER
trust_metadata: name TEXT, data BLOB
trust_recalled: sha256 TEXT
windows: key TEXT, data BLOB"""


# What agents stored that knew of no broker. Devices have it, and are to go on.
IDENTITY_WITHOUT_BROKER = (
    '{"device":"cam-1","certificate_pem":"cGVt","server_ca_pem":"Y2E=","session_address":"host:1",'
    '"enrolment_address":"host:2","root_metadata":"e30="}'
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(home)
    yield opened
    opened.close()


def pragma(store: SqliteStore, name: str) -> object:
    with store._database.turn() as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_commit_survives_a_power_cut_by_the_settings(store: SqliteStore) -> None:
    assert (pragma(store, "journal_mode"), pragma(store, "synchronous")) == ("wal", 2)


def test_nobody_else_can_read_it(store: SqliteStore, home: Path) -> None:
    store.identity.next_counter()

    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()} == {
        "agent.lock": 0o600,
        "agent.sqlite": 0o600,
        "agent.sqlite-shm": 0o600,
        "agent.sqlite-wal": 0o600,
    }


def test_a_database_that_others_could_read_is_closed_to_them(home: Path) -> None:
    SqliteStore(home).close()
    (home / DATABASE_NAME).chmod(0o644)

    SqliteStore(home).close()

    assert (home / DATABASE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_home_that_others_may_write_in_is_refused(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)

    with pytest.raises(StoreError, match="others may write in it"):
        SqliteStore(home)


def test_a_database_behind_a_symbolic_link_is_refused(home: Path, tmp_path: Path) -> None:
    home.mkdir(mode=0o700)
    (home / DATABASE_NAME).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match=DATABASE_NAME):
        SqliteStore(home)

    assert not (tmp_path / "elsewhere").exists()


def test_two_agents_can_not_share_a_home(store: SqliteStore, home: Path) -> None:
    with pytest.raises(HomeInUse, match=f"{home}: in use by process {os.getpid()}"):
        SqliteStore(home)

    store.close()
    SqliteStore(home).close()


def test_whoever_only_looks_for_an_instant_keeps_no_agent_from_starting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore(home).close()
    looking = os.open(home / LOCK_NAME, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(looking))  # the instant is over

    SqliteStore(home).close()


def test_an_agent_that_was_killed_leaves_the_home_to_the_next(home: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from agent.store.sqlite_store import SqliteStore;"
        "store = SqliteStore(Path(sys.argv[1])); store.identity.next_counter();"
        "print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, cwd=ROOT
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(HomeInUse, match=f"process {other.pid}"):
            SqliteStore(home)
        other.kill()

    store = SqliteStore(home)
    assert store.identity.next_counter() == 2
    store.close()


def test_a_program_beside_the_agent_reads_and_can_not_write(store: SqliteStore, home: Path) -> None:
    write(store, 5)

    beside = SqliteStore(home, read_only=True)

    assert beside.installs.generation() == 5
    with pytest.raises(StoreError, match="readonly"):
        beside.identity.next_counter()
    beside.close()
    assert store.identity.next_counter() == 1


def test_there_is_nothing_to_read_before_there_is_a_store(home: Path) -> None:
    with pytest.raises(StoreError, match="unable to open"):
        SqliteStore(home, read_only=True)
    assert not home.exists()


@pytest.mark.parametrize("garbage", [b"this is no database" * 300, b"\x00" * 5000])
def test_what_is_no_database_is_named_and_left_alone(home: Path, garbage: bytes) -> None:
    home.mkdir(mode=0o700)
    (home / DATABASE_NAME).write_bytes(garbage)

    with pytest.raises(StoreCorrupt, match=DATABASE_NAME) as caught:
        SqliteStore(home)

    assert "Move the database" in caught.value.remedy
    assert (home / DATABASE_NAME).read_bytes() == garbage


def test_a_damaged_page_is_found_when_it_is_opened(home: Path) -> None:
    store = SqliteStore(home)
    for number in range(1, 200):
        store.spool.put("event", b"x" * 3000, number)
    store.close()
    path = home / DATABASE_NAME
    whole = bytearray(path.read_bytes())
    whole[4096 * 20 : 4096 * 60] = b"\xff" * (4096 * 40)
    path.write_bytes(whole)

    with pytest.raises(StoreCorrupt):
        SqliteStore(home)


def test_a_record_that_makes_no_sense_is_corruption(store: SqliteStore) -> None:
    with store._database.turn() as db:
        record = {"model": "m", "slot": "s", "record": '{"model": 7}'}
        db.table("slots").insert(record)

    with pytest.raises(StoreCorrupt, match="slot: Expected `str`, got `int`"):
        store.installs.slots()


def test_a_full_disk_changes_nothing_and_says_so(store: SqliteStore) -> None:
    write(store, 1)
    pages = pragma(store, "page_count")
    assert pragma(store, f"max_page_count = {pages}") == pages

    with pytest.raises(DiskFull, match="full") as caught, store.transaction():
        store.installs.save_directive(b"x" * 100_000, 2)

    assert "Free disk space" in caught.value.remedy
    assert store.installs.generation() == 1
    pragma(store, "max_page_count = 100000")
    store.installs.save_directive(b"x" * 100_000, 2)
    assert store.installs.generation() == 2


def test_a_transaction_that_a_full_disk_ended_takes_no_more_writes(store: SqliteStore) -> None:
    """SQLite may end it by itself; what follows must not become durable on its own."""

    def go_on_writing() -> None:
        with store.transaction():
            with store._database.turn() as db:
                db.conn.execute("ROLLBACK")
            store.identity.next_counter()

    with pytest.raises(StoreError, match="transaction was lost"):
        go_on_writing()
    assert store.identity.next_counter() == 1


def test_what_the_spool_holds_is_not_counted_again_for_every_record(store: SqliteStore) -> None:
    store.spool.put("event", b"x", 0)
    with store._database.turn() as db:
        statements: list[str] = []
        db.conn.set_trace_callback(statements.append)
    for at in range(5):
        store.spool.put("event", b"x", at)
    store.spool.forget(3)
    store.spool.put("window", b"x", 9)

    assert statements
    assert not [one for one in statements if "spool_by_kind" in one]


# --- Versions -------------------------------------------------------------------------------------


def test_the_first_version_never_changes(tmp_path: Path) -> None:
    db = Database(sqlite3.connect(":memory:"))
    migrations.first_tables(db)

    tables = sorted(set(db.table_names()) - {"sqlite_sequence"})
    found = [
        f"{name}: " + ", ".join(f"{one.name} {one.type}" for one in db.table(name).columns)
        for name in tables
    ]
    db.close()

    assert "\n".join(found) == VERSION_1


def test_a_database_of_a_newer_agent_is_refused_untouched(home: Path) -> None:
    SqliteStore(home).close()
    with Database(sqlite3.connect(home / DATABASE_NAME)) as db:
        db.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreTooNew, match=f"99; this agent knows up to {len(MIGRATIONS)}"):
        SqliteStore(home)


def test_an_older_database_is_brought_forward_with_what_it_holds(home: Path) -> None:
    store = SqliteStore(home)
    write(store, 3)
    store.close()

    def add_a_column(db: Database) -> None:
        db.table("windows").add_column("opened_ms", int)

    with connect(home / DATABASE_NAME, read_only=False) as db:
        assert migrate(db, (*MIGRATIONS, add_a_column)) == len(MIGRATIONS) + 1
        assert migrate(db, (*MIGRATIONS, add_a_column)) == len(MIGRATIONS) + 1
        assert db.execute("SELECT key, data, opened_ms FROM windows").fetchall() == [
            ("w", b"3", None)
        ]


def test_what_failed_before_names_were_kept_has_the_name_of_what_was_tried(home: Path) -> None:
    home.mkdir()
    with Database(sqlite3.connect(home / DATABASE_NAME)) as db:
        migrate(db, MIGRATIONS[:1])
        db.execute("INSERT INTO quarantine VALUES (?, 'model-load', 'no model', 1.5)", ["a" * 64])
        db.execute("INSERT INTO quarantine VALUES (?, 'crash-loop', '', 2.5)", ["b" * 64])
        record = f'{{"model": "digits", "version": 3, "sha256": "{"a" * 64}"}}'
        db.execute("INSERT INTO installs VALUES ('digits', 'champion', ?)", [record])

        migrate(db)

        query = "SELECT model, version, code, rollout, attempt FROM quarantine ORDER BY at"
        found = db.execute(query).fetchall()
    assert found == [("digits", 3, "model-load", "", 1), ("", 0, "crash-loop", "", 1)]


def test_a_migration_that_fails_leaves_the_version_before(home: Path) -> None:
    SqliteStore(home).close()

    def fail_half_way(db: Database) -> None:
        db.table("windows").add_column("opened_ms", int)
        db.execute("INSERT INTO nowhere VALUES (1)")

    with connect(home / DATABASE_NAME, read_only=False) as db:
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, (*MIGRATIONS, fail_half_way))
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert "opened_ms" not in db.table("windows").columns_dict

    SqliteStore(home).close()


# --- Power ----------------------------------------------------------------------------------------


def test_killed_writers_leave_all_of_a_transaction_or_nothing(home: Path) -> None:
    writers = 30
    run = subprocess.run(
        [sys.executable, "-m", "tests.agent.store.kill_writers", str(home), str(writers)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) == writers
    for acknowledged, held in lines:
        numbers = [int(number) for number in held.split(",")]
        assert len(numbers) == 1, "all bear the same number"
        assert numbers[0] >= int(acknowledged), "what was said to be durable is"


def test_an_identity_of_an_agent_that_knew_no_broker_is_read(
    store: SqliteStore, home: Path
) -> None:
    with store._database.turn() as db:
        db.table("identity").insert({"id": 1, "record": IDENTITY_WITHOUT_BROKER})
    store.close()

    again = SqliteStore(home)
    known = Identity("cam-1", b"pem", b"ca", "host:1", "host:2", b"{}", "", "", b"")
    assert again.identity.load() == known
    again.close()
