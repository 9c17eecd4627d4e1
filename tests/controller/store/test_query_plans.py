"""What every turn of the planner asks reads the rows of devices that have changed, and no others."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.dialects import sqlite

from controller.store.sql import SqlStore, changes


@pytest.mark.parametrize("query", ["_IDS", "_DEVICES", "_WANTED", "_SLOTS", "_MEMBERS"])
def test_changes_are_found_by_their_index(tmp_path: Path, query: str) -> None:
    address = f"sqlite:///{tmp_path}/muster.db"
    SqlStore.open(address).close()
    asked = getattr(changes, query).compile(dialect=sqlite.dialect(paramstyle="named"))

    engine = create_engine(address)
    with engine.begin() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}", {"known": 1}).fetchall()
    engine.dispose()

    assert [step[-1] for step in steps if "SCAN" in step[-1]] == []
    assert any("ix_changes_revision" in step[-1] for step in steps)
