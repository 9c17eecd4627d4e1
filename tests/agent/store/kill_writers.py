"""Forks writers to one store, kills each at an odd moment, and says what the store holds then.

Run as a program with a folder and a count; prints one line a writer: what it had said was durable,
and what was.
"""

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.install.machine import State
from agent.install.record import Deployed, Install, Slot
from agent.store.device_store import TrustedState
from agent.store.sqlite_store import SqliteStore


def write(store: SqliteStore, number: int) -> None:
    """One transaction over every small store; all of it bears the number."""
    deployed = Deployed("digits", number, f"{number:064x}", f"{number:064x}", number, 2)
    with store.transaction():
        store.installs.save_slot(Slot("digits", "champion", active=deployed))
        store.trust.save(TrustedState({"root.json": b"%d" % number * 500}, number, {"m": number}))
        store.installs.save_install(
            Install(
                "digits", "champion", number, number, "t", f"{number:064x}", 1, State.PROBATION, 0.0
            )
        )
        store.installs.save_directive(b"%d" % number, number)
        store.windows.checkpoint("w", b"%d" % number)
        store.spool.put("event", b"%d" % number, number)


def held(store: SqliteStore) -> set[int]:
    """Every number that is to be found: one, if every transaction was all or nothing."""
    (slot,), (install,) = store.installs.slots(), store.installs.installs()
    trusted = store.trust.load()
    spooled = store.spool.batch(1_000_000, 1 << 40)
    assert slot.active is not None
    assert [int(one.payload) for one in spooled] == list(range(1, len(spooled) + 1))
    assert trusted.metadata["root.json"] == b"%d" % trusted.latest_time * 500
    return {
        slot.active.version,
        install.version,
        trusted.latest_time,
        trusted.floors["m"],
        store.installs.generation(),
        int(store.installs.directive()),
        int(store.windows.checkpoints()["w"]),
        len(spooled),
    }


def write_until_killed(home: Path, first: int, pipe: int) -> None:
    store = SqliteStore(home)
    for number in range(first, first + 100_000):
        write(store, number)
        os.write(pipe, b"%d\n" % number)


def said(pipe: int, lines: int) -> Iterator[int]:
    """The numbers that come through the pipe: at least so many, and what came with the last."""
    rest = b""
    while lines > 0:
        *whole, rest = (rest + os.read(pipe, 4096)).split(b"\n")
        lines -= len(whole)
        yield from map(int, whole)


def main(home: Path, writers: int) -> None:
    rng = random.Random(20)  # noqa: S311 - a seed
    store = SqliteStore(home)
    write(store, 1)
    store.close()
    last = 1
    for _ in range(writers):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            write_until_killed(home, last + 1, writing)
        os.close(writing)
        acknowledged = max(said(reading, rng.randint(1, 12)))
        for _ in range(rng.randint(0, 20_000)):  # somewhere into the next transaction
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        store = SqliteStore(home)
        numbers = held(store)
        store.close()
        last = max(numbers)
        sys.stdout.write(f"{acknowledged} {','.join(map(str, sorted(numbers)))}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
