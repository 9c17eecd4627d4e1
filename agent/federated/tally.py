"""What a device has done for federated runs since its agent was started: sums that only grow."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from agent.federated.yielding import Pace

PREFIX: Final = "federated."
OUTCOMES: Final = ("trained", "evaluated", "declined", "refused")


@dataclass(slots=True)
class Spent:
    """Time of the processes that train and evaluate.

    Attributes:
        ran, waited: seconds of computing, and of standing still for requests.
        yields: how often they were stopped for one.
    """

    ran: float = 0.0
    waited: float = 0.0
    yields: int = 0

    def add(self, pace: Pace, now: float, yields: int) -> None:
        """One of them has ended at ``now``."""
        self.ran += pace.ran_until(now)
        self.waited += pace.waited_until(now)
        self.yields += yields


@dataclass(slots=True)
class Tally:
    """Tasks by what came of them, and by why they were declined."""

    tasks: Counter[str] = field(default_factory=Counter)
    declined: Counter[str] = field(default_factory=Counter)

    def happened(self, name: str, code: str) -> None:
        """As ``agent.federated.task.loop.Happened`` has it."""
        outcome = name.removeprefix(PREFIX)
        self.tasks[outcome] += 1
        if outcome == "declined":
            self.declined[code] += 1
