"""What is asked again and again reads the rows that it is about, and no others."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, create_engine
from sqlalchemy.dialects import sqlite

from controller.store.sql import SqlStore, changes, tasks


@pytest.mark.parametrize("query", ["_IDS", "_DEVICES", "_WANTED", "_SLOTS", "_MEMBERS"])
def test_changes_are_found_by_their_index(tmp_path: Path, query: str) -> None:
    steps = plan_of(tmp_path, getattr(changes, query), {"known": 1})

    assert [step for step in steps if "SCAN" in step] == []
    assert any("ix_changes_revision" in step for step in steps)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("_NEWEST", "ix_tasks_device_state (device=? AND state=?)"),
        ("_REPLIED", "ix_tasks_run_state (run=? AND state=?)"),
        ("_UNSETTLED", "ix_tasks_state (state=?)"),
        ("_UNSETTLED_OF", "ix_tasks_run_state (run=? AND state=?)"),
    ],
)
def test_tasks_that_are_open_are_found_among_all_that_ever_were(
    tmp_path: Path, query: str, index: str
) -> None:
    steps = plan_of(tmp_path, getattr(tasks, query), {"of": "x"})

    assert [step for step in steps if "SCAN" in step] == []
    assert any(index in step for step in steps), steps


def plan_of(folder: Path, query: Select[Any], values: dict[str, Any]) -> list[str]:
    """What SQLite would do."""
    address = f"sqlite:///{folder}/muster.db"
    SqlStore.open(address).close()
    asked = query.params(**values).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    engine = create_engine(address)
    with engine.begin() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}").fetchall()
    engine.dispose()
    return [step[-1] for step in steps]
