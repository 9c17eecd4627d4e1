"""The owner of a device sees how many examples it keeps, and can have them forgotten."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from agent.federated.examples import examples_of
from agent.federated.layout import TRUTH, Field, Layout, packed
from agent.federated.retention import Retention
from agent.store.sqlite_examples import EXAMPLES_NAME, SqliteExamples, open_examples
from tests.agent.cli.machine import Agent

LAYOUT = Layout(inputs=(Field("x", "FP32", (2,)),), truth=Field(TRUTH, "INT64", ()))
ALL = Retention(hold_out=0.0)
TELLING = np.frombuffer(b"secret01", np.float32)


def keep(home: Path, *models: str) -> SqliteExamples:
    home.mkdir(exist_ok=True)
    store = SqliteExamples(home / EXAMPLES_NAME, ALL)
    for model in models:
        rows = packed(LAYOUT, {"x": np.tile(TELLING, (40, 1))}, np.zeros(40, np.int64))
        store.add(model, LAYOUT, examples_of(LAYOUT, rows, ALL, 1.0, "s"))
    return store


def traces(home: Path) -> list[str]:
    return [one.name for one in home.iterdir() if b"secret01" in one.read_bytes()]


def test_a_device_that_keeps_none_says_so(agent: Agent) -> None:
    assert agent("examples").out == "no examples are kept here\n"
    assert json.loads(agent("examples", "list", "-o", "json").out) == []
    assert agent("examples", "clear").out == "0 examples forgotten\n"
    assert not agent.home.exists()


def test_examples_are_counted_and_forgotten_beside_a_running_agent(agent: Agent) -> None:
    with contextlib.closing(keep(agent.home, "digits", "letters")) as running:
        size = 40 * LAYOUT.row_bytes
        assert agent("examples").out.splitlines() == [
            f"digits: 40 to learn from, 0 held out, {size} bytes",
            f"letters: 40 to learn from, 0 held out, {size} bytes",
        ]
        assert json.loads(agent("examples", "-o", "json").out)[0] == {
            "model": "digits", "training": 40, "held_out": 0, "bytes": size
        }  # fmt: skip

        assert agent("examples", "clear", "digits").out == "40 examples forgotten\n"
        assert [model for model, _ in running.models()] == ["letters"]
        assert agent("examples", "clear").out == "40 examples forgotten\n"
        assert running.models() == []


def test_nothing_of_what_is_forgotten_is_left_on_the_disk(agent: Agent) -> None:
    with contextlib.closing(keep(agent.home, "digits")):
        assert traces(agent.home) != []

        agent("examples", "clear")

        assert traces(agent.home) == []
    assert (agent.home / EXAMPLES_NAME).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / EXAMPLES_NAME
    path.write_bytes(damage)

    with contextlib.closing(open_examples(path, ALL)) as store:
        assert store.models() == []


def test_a_file_whose_writer_was_killed_is_whole(tmp_path: Path) -> None:
    with contextlib.closing(keep(tmp_path, "digits")):
        torn = tmp_path / "torn"
        torn.mkdir()
        for suffix in ("", "-wal"):  # what a power cut leaves: no orderly end, and half of a write
            data = (tmp_path / f"{EXAMPLES_NAME}{suffix}").read_bytes()
            (torn / f"{EXAMPLES_NAME}{suffix}").write_bytes(data[: len(data) - 100 * bool(suffix)])

    with contextlib.closing(open_examples(torn / EXAMPLES_NAME, ALL)) as again:
        assert [held.examples for _, held in again.models()] in ([], [40])
