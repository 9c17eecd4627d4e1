"""What a simulated fleet costs: a month of it, with a rollout, devices that are away, and a site cut off.

Each size is played in a process of its own, so that its memory is its own.
"""

import gc
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from simulations.bench.row import BenchRow
from simulations.bench.staged import load_note
from simulations.fleet.scenario_parser import parse
from simulations.fleet.simulation import Cost, Simulation

SIZES = (10_000, 100_000)
DAYS = 30
TARGET_DEVICES, TARGET_SECONDS = 100_000, 60.0
SCENARIO = f"""\
# A month
site a 25%
site b 25%
site c 25%
site d 25%
version digits/1
version digits/2
running digits/1
at 0m offline 10% of devices for 7d
at 1h rollout start digits/2 to all
at 3d partition site=b for 6h
until {DAYS}d
"""


def rows() -> list[BenchRow]:
    """Device-days in a second, and memory for each device."""
    return measured(SIZES)


def measured(sizes: Sequence[int]) -> list[BenchRow]:
    """Likewise for a small fleet and a large one."""
    small, large = (_alone(size) for size in sizes)
    rate = sizes[1] * DAYS / large.seconds
    each = (large.peak_bytes - small.peak_bytes) / (sizes[1] - sizes[0])
    return [
        BenchRow(
            "simulated device-days",
            rate,
            "/s",
            TARGET_DEVICES * DAYS / TARGET_SECONDS,
            f"{small.seconds:.3g} s for {sizes[0]:,} devices, {large.seconds:.3g} s for {sizes[1]:,}",
            f"{large.events:,} events, {large.turns:,} plans; {load_note()}",
        ),
        BenchRow(
            "memory of a simulated device",
            each / 1024,
            "KiB",
            None,
            f"{large.peak_bytes / 2**20:.0f} MiB for {sizes[1]:,}",
            "the difference of both sizes: it grows linearly",
        ),
    ]


def play(devices: int) -> Cost:
    """What the month took, from nothing to its end."""
    gc.disable()  # as ``muster simulate`` does: nothing in a simulation is a cycle
    began = time.perf_counter()
    cost = Simulation(parse("month", SCENARIO), 1, devices).run()
    return replace(cost, seconds=time.perf_counter() - began)


def _alone(devices: int) -> Cost:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(play, devices).result()
