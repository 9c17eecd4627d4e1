"""A scenario, played: everything is built from it and from one seed, and the same seed plays the same."""

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from simulations.fleet import cast
from simulations.fleet.centre import Controller
from simulations.fleet.device import Birth, Device, World
from simulations.fleet.expectations import Finding, findings
from simulations.fleet.faults import Faults
from simulations.fleet.fragile_store import FragileStore
from simulations.fleet.line import Line
from simulations.fleet.operator import Operator
from simulations.fleet.queue import Queue
from simulations.fleet.scenario import Ask, Command, Scenario
from simulations.fleet.tally import Tally
from simulations.fleet.transcript import Transcript

SPREAD_SECONDS: Final = 300.0
LARGE: Final = 2_000
AT_ONCE: Final = 1_000
"""Devices that are entered in one transaction, which keeps what was there before."""
GATHERING_SECONDS: Final = 30.0
"""In a larger fleet a device gathers for so long what it reports: reports between say less."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a simulation took."""

    seconds: float
    events: int
    turns: int
    peak_bytes: int


class Simulation:
    """One scenario with one seed.

    Attributes:
        ground, centre, devices: the world; ``transcript`` and ``tally`` tell of it.
    """

    def __init__(self, scenario: Scenario, seed: int, devices: int | None = None) -> None:
        count = devices or scenario.devices
        self.scenario, self.seed = scenario, seed
        members = cast.cast(scenario, count, seed)
        queue = Queue()
        tally = Tally(queue)
        self.transcript = Transcript(queue, max(SPREAD_SECONDS, scenario.until / 500))
        self.ground = World(
            queue=queue,
            rng=random.Random(f"{seed} events"),  # noqa: S311 - nothing secret
            numbers=cast.numbers(seed),
            editions=cast.editions(scenario, members, seed),
            quality=scenario.quality,
            requests_per_second=scenario.requests_per_second,
            chronicle=self.transcript,
            tally=tally,
            gathering=GATHERING_SECONDS if count > LARGE else 0.0,
        )
        self.devices = [
            Device(self.ground, number, birth) for number, birth in enumerate(members.births)
        ]
        line = Line()
        by_id = {device.id: device for device in self.devices}
        store = FragileStore(self.ground, by_id, seed)
        self.centre = Controller(self.ground, line, self.transcript, by_id, scenario.policy, store)
        self.ground.line, self.ground.centre = line, self.centre
        self._operator = Operator(self.centre, members, seed)
        self._faults = Faults(self.centre)
        with self.centre.store.begin() as tx:
            cast.publish(tx, self.ground.editions)
        for first in range(0, count, AT_ONCE):
            self._enter(members.births[first : first + AT_ONCE], first)
        self._by_id = by_id

    def _enter(self, births: Sequence[Birth], first: int) -> None:
        """Devices come in that have run something before."""
        devices = self.devices[first : first + len(births)]
        with self.centre.store.begin() as tx:
            cast.enrol(tx, devices, births)
            if self.scenario.running:
                running = self.ground.editions[self.scenario.running]
                cast.settle(tx, self.ground, devices, running)

    def run(self, decided: Callable[[], bool] = lambda: False) -> Cost:
        """Plays it to its end, or until it is ``decided``, which is asked after every plan."""
        began = time.perf_counter()
        tally, queue = self.ground.tally, self.ground.queue
        tally.keep()
        for command in self.scenario.commands:
            queue.at(command.at, partial(self._carry_out, command))
        self.centre.on_turn = partial(self._stop_if, decided)
        queue.run(self.scenario.until)
        self.transcript.flush()
        tally.keep()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        scale = 1 if sys.platform == "darwin" else 1024
        seconds = time.perf_counter() - began
        return Cost(seconds, queue.done, self.centre.turns, peak * scale)

    def _stop_if(self, decided: Callable[[], bool]) -> None:
        if decided():
            self.ground.queue.stop()

    def findings(self) -> tuple[Finding, ...]:
        """What was expected, and whether it is so."""
        running = Counter(
            f"{slot.model}/{slot.active.version}"
            for device in self.devices
            for slot in device.slots.values()
            if slot.active is not None
        )
        with self.centre.store.read() as tx:
            return findings(self.scenario.expectations, tx, self.ground.tally, running)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command.does, Ask):
            self._operator.does(command.does, command.text)
        else:
            meant = [self._by_id[one] for one in self._operator.meant(command.does.who)]
            self._faults.strike(command.does, command.text, meant)
