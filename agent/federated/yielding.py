"""Training gives way to inference: when it stands still, when it goes on, and how long it has done which.

A request stops it at once. It goes on when nothing has been asked for a moment; how long that is
decides between the tail of latencies and the end of a round.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol


class Pressure(Protocol):
    """What inference needs of the machine now."""

    def under_way(self) -> int:
        """How many requests are being answered or wait for it."""
        ...

    def watch(self, on_request: Callable[[], None]) -> Callable[[], None]:
        """Calls ``on_request`` for each request that comes in, on the event loop's thread.

        What is returned ends that.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Training's time so far, on a clock that never goes backwards.

    Attributes:
        running: it runs; else it stands still.
        since: it has done so since then.
        ran, waited: seconds before that.
        quiet_since: nothing has been under way since then; None while something is, or may be.
    """

    running: bool
    since: float
    ran: float = 0.0
    waited: float = 0.0
    quiet_since: float | None = None

    def ran_until(self, now: float) -> float:
        """Seconds of running."""
        return self.ran + (now - self.since if self.running else 0.0)

    def waited_until(self, now: float) -> float:
        """Seconds of standing still."""
        return self.waited + (0.0 if self.running else now - self.since)


def asked(pace: Pace, now: float) -> Pace:
    """A request has come: it stands still."""
    if not pace.running:
        return replace(pace, quiet_since=None)
    return Pace(running=False, since=now, ran=pace.ran_until(now), waited=pace.waited)


def looked(pace: Pace, under_way: int, now: float, quiet_seconds: float) -> Pace:
    """So many requests are under way: it goes on when there were none for so long."""
    if under_way:
        return asked(pace, now)
    if pace.running:
        return pace
    quiet_since = now if pace.quiet_since is None else pace.quiet_since
    if now - quiet_since < quiet_seconds:
        return replace(pace, quiet_since=quiet_since)
    return Pace(running=True, since=now, ran=pace.ran, waited=pace.waited_until(now))
