"""When a stage that stragglers keep from being settled is judged by its gates. Times in, times out.

Every look at the gates is one more chance to take chance for a fault, so they are few. And no look
is at a part of the stage: what is fair in the comparison is that the stage was drawn by lot, and its
quickest devices were not: they are those of one site, one time zone, one kind of hardware. But a few
stragglers, which may take as long as the deadline, must hide no fault: a minute after three of four
devices have soaked there is a look, and another each time that the time since has doubled. While
devices are still to be released there is none: pace may have let one site go before the others.
"""

import math
from collections.abc import Sequence
from typing import Final

from controller.rollout.account import Tally

LOOK_SECONDS: Final = 60.0
"""A look that is due stays so for as long; the controller may be busy. And who comes within it is no
straggler."""
NEARLY_ALL: Final = 0.75
"""Of a stage's devices: so many are still nearly as good as drawn by lot."""


def nearly_at(times: Sequence[float], tally: Tally) -> float:
    """When three of four of a stage's devices were as far as each was at its time; ascending.

    Who is away counts on neither side; who is deferred is missing, as all of a time zone may be.
    Infinite while fewer have.
    """
    most = math.ceil(NEARLY_ALL * (tally.told + tally.deferred))
    needed = most - tally.failed - tally.unreachable
    if tally.decided < most or not 0 < needed <= len(times):
        return math.inf
    return times[needed - 1]


def look(nearly: float, apart: float, now: float) -> tuple[bool, float]:
    """Whether the gates are to be looked at now, and when the next look begins, in Unix seconds.

    The second look is ``apart`` seconds after the first, at least ``LOOK_SECONDS``.
    """
    first_at = nearly + LOOK_SECONDS
    if now < first_at:
        return False, first_at
    at, apart = first_at, max(apart, LOOK_SECONDS)
    while (next_at := first_at + 2 * (at - first_at) + apart) <= now:
        at = next_at
    return now < at + LOOK_SECONDS, next_at
