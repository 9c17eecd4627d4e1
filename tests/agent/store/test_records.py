"""Records are read by many threads, the first time too."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

READERS = """
import sys, threading
sys.setswitchinterval(1e-6)
from agent.install.machine import State
from agent.install.record import Deployed, Install
from agent.store.records import from_text, to_text

deployed = Deployed("m", 1, "a" * 64, "b" * 64, 1, 2)
install = Install("m", "s", 1, 1, "t", "a" * 64, 5, State.IDLE, 1.0, candidate=deployed)
text, together = to_text(install), threading.Barrier(8)

def read():
    together.wait()
    assert from_text(text, Install) == install

threads = [threading.Thread(target=read) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
"""


def test_threads_that_are_the_first_to_read_a_record_do_not_crash() -> None:
    command = [sys.executable, "-c", READERS]
    readers = [subprocess.Popen(command, cwd=ROOT) for _ in range(10)]

    assert [one.wait(60) for one in readers] == [0] * 10
