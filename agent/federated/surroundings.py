"""How the device is at a moment, from what the rest of the agent can say of it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from agent.clock import Clock
from agent.federated.eligibility import Condition, Load, busy_share
from agent.federated.record import Journal
from agent.install.gates import Circumstances

WINDOW_SECONDS: Final = 10.0
"""How busy inference is, is looked at over so long, at least."""


class Surroundings:
    """May be asked from any thread; ``inference`` is seconds of answering so far, by version."""

    def __init__(
        self,
        circumstances: Callable[[datetime], Circumstances],
        inference: Callable[[], Mapping[tuple[str, int], float]],
        threads: int,
        clock: Clock,
    ) -> None:
        self._circumstances = circumstances
        self._inference = inference
        self._threads = threads
        self._clock = clock
        first = self._load()
        self._marks = (first, first)

    def condition(self, journal: Journal) -> Condition:
        """How the device is now."""
        now, load = self._clock.now(), self._load()
        earlier, later = self._marks
        if load.at - later.at >= WINDOW_SECONDS:
            self._marks = (later, load)
        trained, seconds = journal.trained, now.timestamp()
        return Condition(
            circumstances=self._circumstances(now),
            busy=busy_share(earlier, load, self._threads),
            rests=journal.rest.left(seconds),
            since_trained=seconds - trained if 0 < trained <= seconds else None,
        )

    def _load(self) -> Load:
        return Load(self._clock.monotonic(), dict(self._inference()))
