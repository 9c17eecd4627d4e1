"""Virtual time: what happens when, in order. Nothing else moves the time."""

import heapq
from collections.abc import Callable
from typing import Final

EPOCH: Final = 1_799_625_600.0
"""Unix time of the beginning: Monday, 11 January 2027, 00:00 UTC."""

Action = Callable[[], None]


class Queue:
    """What is due, by time; of the same time, by what was asked for first.

    Attributes:
        now: seconds since the beginning.
        done: how many things have happened.
    """

    __slots__ = ("_due", "_order", "_stopped", "done", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.done = 0
        self._order = 0
        self._stopped = False
        self._due: list[tuple[float, int, Action]] = []

    def after(self, seconds: float, action: Action) -> None:
        """Has it happen so much later; at once is after all that is due now."""
        self._order += 1
        when = self.now + seconds if seconds > 0.0 else self.now
        heapq.heappush(self._due, (when, self._order, action))

    def at(self, when: float, action: Action) -> None:
        """Has it happen then, or now if that has passed."""
        self._order += 1
        heapq.heappush(self._due, (max(when, self.now), self._order, action))

    def run(self, until: float) -> None:
        """Has everything happen that is due until then, its end included."""
        due = self._due
        while due and due[0][0] <= until and not self._stopped:
            self.now, _, action = heapq.heappop(due)
            self.done += 1
            action()
        if not self._stopped:
            self.now = until

    def stop(self) -> None:
        """Nothing more happens, and the time stands still."""
        self._stopped = True
