import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.bench import simulation
from simulations.bench.__main__ import PARTS
from simulations.bench.process import activities, weight
from simulations.bench.staged import bytecode


@pytest.mark.parametrize("part", PARTS)
def test_every_part_that_can_be_asked_for_is_there(part: str) -> None:
    assert callable(importlib.import_module(f"simulations.bench.{part}").rows)


def test_a_part_that_is_not_there_is_refused_by_its_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulations.bench", "magic"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "no such part: magic" in done.stderr


def test_what_is_unique_is_part_of_what_is_proportional_and_that_of_what_is_resident() -> None:
    found = weight(os.getpid())

    assert 0 < found.unique <= found.proportional <= found.resident


def test_each_process_gets_an_activity_of_its_own() -> None:
    with subprocess.Popen(["sleep", "60"]) as stopped:
        try:
            stopped.send_signal(signal.SIGSTOP)
            os.waitpid(stopped.pid, os.WUNTRACED)
            idle, watcher = activities([stopped.pid, os.getpid()], 0.01)
        finally:
            stopped.kill()

    assert idle.wakes == idle.share == 0
    assert watcher.wakes > 0


def test_children_keep_their_bytecode_and_the_environment_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "noted.py").write_text("")
    before = dict(os.environ)

    with bytecode(tmp_path):
        subprocess.run([sys.executable, "-c", "import noted"], cwd=tmp_path, check=True)

    assert list((tmp_path / "bytecode").rglob("noted.*.pyc"))
    assert dict(os.environ) == before


def test_a_simulated_month_is_measured_by_devices_and_by_memory() -> None:
    speed, memory = simulation.measured((5, 20))

    assert speed.value > 0
    assert speed.target == 50_000
    assert speed.ratio.endswith("s for 20")
    assert memory.unit == "KiB"
