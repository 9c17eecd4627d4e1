"""A plan as people read it."""

import doctest

from controller.fleet_config import sentences
from controller.fleet_config.sentences import applied_lines, plan_lines
from tests.controller.fleet_config.applying import apply, enrol, names, planned, world

FILE = """
[fleet]
name = "meters"
selector = "kind=meter"
[[models]]
name = "load"
version = "load/1"
[[models]]
name = "theft"
version = "theft/1"
selector = "site=munich"
[[stages]]
name = "canary"
percent = 10
soak = "2h"
[[stages]]
name = "all"
percent = 100
approval = true
[conditions]
windows = [{ start = "22:30", duration = "5h" }]
"""


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(sentences).failed == 0


async def test_a_plan_says_what_begins_for_whom_what_moves_and_how_long_it_takes() -> None:
    made = world(*names(60), site="berlin")
    enrol(made, "x1", "x2", zone="Europe/Berlin", site="munich")
    made._publish("theft/1", "memory_bytes=17179869184")

    assert plan_lines(planned(made, FILE)) == tuple(EXPECTED.strip("\n").split("\n"))


EXPECTED = """
fleet meters: 2 rollouts would start
load/1: load-1-1 would start, to kind=meter
  62 devices match and can run it
  to move: 66.3 kB, 1.07 kB to each of 62 devices
    site=berlin: 64.1 kB to 60 devices
    site=munich: 2.14 kB to 2 devices
  canary: 7 devices, growing to 49 until enough is proven, takes 2 d 16 h
  all: 6 devices, once somebody approves, begins after 2 d 16 h, takes 32 min
  control group: 7 devices, begins after 2 d 17 h, takes 32 min
  done after 2 d 17 h, at 2027-01-18 01:35 UTC
theft/1: theft-1-1 would start, to kind=meter and site=munich
  no device matches that can run it, yet; those that come later get it
  2 devices can't run it: needs 16384 MiB of memory, has 8192 MiB: x1, x2
assumed:
  every device is online and asked enough, none fails, no gate is breached, approvals come at once
  a link carries 1 MB a second; files come whole, but for steps from what runs
  a device tests a version for 1 min, and has it on probation for 1 min
  60 devices in UTC, as they name no time zone: m000, m001, m002, m003, m004 and 55 more
"""


async def test_what_stays_is_said_in_a_line() -> None:
    made = world(*names(6), site="berlin")
    old = FILE.replace('"theft"', '"load"').replace("theft/1", "load/1").replace(
        'selector = "site=munich"', 'slot = "challenger"'
    )  # fmt: skip
    assert apply(made, old).started == ("load-1-1", "load-1-2")
    await made.loop.turn()

    shorter = FILE.replace(FILE[FILE.index('[[models]]\nname = "theft"') : FILE.index("[[st")], "")
    head, stays, left = plan_lines(planned(made, shorter))
    assert head == "fleet meters: nothing to start"
    assert stays == "load/1: unchanged (load-1-1, running)"
    assert left == (
        "load-1-2 (load/1 to kind=meter, running) is no longer asked for, and is left alone; "
        "--prune ends it, and its devices keep what they run"
    )


def test_what_was_done_is_said() -> None:
    assert applied_lines([], []) == ("nothing to do",)
    assert applied_lines(["a-1-1"], ["b-1-1"]) == (
        "a-1-1 has begun: `muster rollout watch a-1-1`",
        "b-1-1 is ended; its devices keep what they run",
    )
