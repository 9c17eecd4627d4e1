"""A run's lock goes with the process that took it."""

import subprocess
import sys
from pathlib import Path

import pytest

from controller.errors import StoreError
from controller.runtimes.run_lock import alone

TAKES = """
import os, sys
from pathlib import Path
from controller.runtimes.run_lock import alone

with alone(Path(sys.argv[1]), "r1"):
    if os.fork():  # as a pool of an app does
        os._exit(0)
    os.read(0, 1)
"""


def test_what_its_owner_forked_does_not_hold_it(tmp_path: Path) -> None:
    with taking(tmp_path) as owner, taking(tmp_path) as following:
        assert owner.wait(30) == 0
        try:
            assert following.wait(30) == 0
        finally:
            following.kill()


def taking(folder: Path) -> subprocess.Popen[bytes]:
    """One that takes the lock, forks and ends; what it forked ends with the standard input."""
    words = [sys.executable, "-c", TAKES, str(folder)]
    return subprocess.Popen(words, stdin=subprocess.PIPE)


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "federated").write_text("a file")

    with pytest.raises(StoreError, match="federated"), alone(tmp_path / "federated", "r1"):
        pass
