"""How fast selectors follow a fleet of 100,000: the index of memberships, against scans of the fleet."""

import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from controller.fleet.attributes import attributes
from controller.fleet.device import Device
from controller.fleet.membership import Membership
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from simulations.bench.row import BenchRow

DEVICES: Final = 100_000
SITES: Final = 200
WATCHED: Final = tuple(f"site=site-{n} and hw!=pi3 and memory_bytes>=512M" for n in range(20))
ADDED: Final = "site=site-77 and hw!=pi3 and memory_bytes>=512M"
CHANGES: Final = 2_000
_NOW: Final = 1_900_000_000.0


def rows() -> list[BenchRow]:
    """A new selector and a change of one device, while twenty selectors are watched."""
    fleet = _fleet(random.Random(7))  # noqa: S311 - data that every run has alike
    index = Membership()
    for device in fleet:
        index.changed(device)
    names_are_new = _seconds(lambda: index.watch(WATCHED, lambda: fleet))
    scan = statistics.median(_seconds(partial(_scan, one, fleet)) for one in WATCHED[:5])
    added = _seconds(lambda: index.watch([ADDED]))
    if index.matching[ADDED] != _scan(ADDED, fleet):
        raise ArithmeticError(f"{ADDED}: not what a scan finds")
    index.unwatch([ADDED])
    moved = _per_change(index, fleet, "site", "site-5")
    unasked = _per_change(index, fleet, "owner", "ada")
    every = scan * len(WATCHED)
    share = f"a scan for them all: {every:.2g} s"
    return [
        BenchRow("selectors, the first 20", names_are_new, "s", None, share,
                 f"of {DEVICES:,} devices; three names are asked for"),
        BenchRow("selector, one more", 1000 * added, "ms", 10.0,
                 f"{scan / added:,.0f} x faster than a scan", "its names were asked for before"),
        BenchRow("device that changes a label", 1e6 * moved, "us", 1000.0,
                 f"{every / moved:,.0f} x faster than to scan", "all 20 selectors ask for it"),
        BenchRow("… that no selector asks for", 1e6 * unasked, "us", 50.0),
    ]  # fmt: skip


def _fleet(rng: random.Random) -> Sequence[Device]:
    def labels(number: int) -> dict[str, str]:
        hardware = rng.choice(["pi3", "pi4", "pi5", "jetson"])
        return {"site": f"site-{number % SITES}", "hw": hardware, "line": str(rng.randrange(20))}

    def facts() -> dict[str, str]:
        told = {"arch": "aarch64", "os": "linux", "runtimes.onnxruntime": "1.20.1"}
        memory = rng.choice([1, 2, 4, 8]) * 2**30
        return {**told, "memory_bytes": str(memory), "disk_free_bytes": str(rng.randrange(2**37))}

    return [
        Device(f"dev-{n:06}", _NOW, b"", "ff", _NOW, labels=labels(n), facts=facts())
        for n in range(DEVICES)
    ]


def _scan(selector: str, fleet: Sequence[Device]) -> frozenset[str]:
    chosen = parse(selector)
    return frozenset(one.id for one in fleet if matches(chosen, attributes(one)))


def _per_change(index: Membership, fleet: Sequence[Device], name: str, value: str) -> float:
    """Of a change and of the change back."""
    some = fleet[:: DEVICES // CHANGES]
    changed = [replace(one, labels={**one.labels, name: value}) for one in some]

    def change() -> None:
        for one in itertools.chain(changed, some):
            index.changed(one)

    return _seconds(change) / (2 * len(some))


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
