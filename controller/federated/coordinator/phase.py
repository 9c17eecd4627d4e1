"""When a phase is over, and whose replies count: by the times at which replies came.

It does not depend on when somebody looks: whoever resumes a run comes to the same end from the same
replies. Therefore a phase is closed only when the millisecond that ends it has passed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that came; ``good`` if it passed the admission check."""

    node: int
    at_ms: int
    good: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a phase waits for.

    Attributes:
        asked: nodes.
        wanted: so many good replies end it.
        deadline_ms: what comes after does not count.
        fewest: with fewer good replies it waits for those that are away, too.
    """

    asked: int
    wanted: int
    deadline_ms: int
    fewest: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """It goes on: look again when something came, at the latest then."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Close:
    """It is over.

    Attributes:
        at_ms: when it came to its end.
        counted: nodes whose good replies came until then, and before there were enough.
        why: what ended it, in words.
    """

    at_ms: int
    counted: frozenset[int]
    why: str


NOBODY: Final[Mapping[int, int]] = {}


def verdict(
    bounds: Bounds, answers: Sequence[Answer], now_ms: int, away: Mapping[int, int] = NOBODY
) -> Wait | Close:
    """Whether the phase is over at ``now_ms``.

    ``away`` are nodes without a link that have not answered, each with the moment from which on nobody
    waits for it.
    """
    timely = sorted(
        (one for one in answers if one.at_ms <= bounds.deadline_ms),
        key=lambda one: (one.at_ms, one.node),
    )
    good = [one for one in timely if one.good]
    enough = max(bounds.wanted, 1)
    counted = frozenset(one.node for one in good[:enough])
    if len(good) >= enough:
        at_ms = good[enough - 1].at_ms
        why = f"quorum: {enough} of {bounds.asked} replied well"
    elif len(timely) >= bounds.asked:
        at_ms = timely[-1].at_ms if timely else now_ms - 1
        why = "everybody has answered"
    elif (given_up_ms := _given_up_ms(bounds, timely, len(good), away)) is not None:
        at_ms = given_up_ms
        why = (
            f"all within reach have answered: {len(good)} of {bounds.asked} replied well, "
            f"{bounds.asked - len(timely)} without a link"
        )
    else:
        at_ms = bounds.deadline_ms
        why = f"deadline: {len(good)} of {bounds.asked} had replied well"
    if len(timely) >= bounds.asked > 0 and len(good) == bounds.asked:
        why = "everybody has replied"
    return Close(at_ms, counted, why) if now_ms > at_ms else Wait(at_ms + 1)


def _given_up_ms(
    bounds: Bounds, timely: Sequence[Answer], good: int, away: Mapping[int, int]
) -> int | None:
    """When the last that was waited for is given up; None if that is not before the deadline."""
    answered = {one.node for one in timely}
    moments = [at_ms for node, at_ms in away.items() if node not in answered]
    if good < max(bounds.fewest, 1) or len(moments) + len(timely) < bounds.asked:
        return None
    last_ms = max([*moments, *(one.at_ms for one in timely)])
    return last_ms if last_ms < bounds.deadline_ms else None


@dataclass(frozen=True, slots=True)
class Size:
    """How many nodes a phase asks, and how many good replies end it."""

    asked: int
    wanted: int


def size(ready: int, fraction: float, over: float, quorum: float, minimum: int) -> Size:
    """Of ``ready`` nodes: over-selection asks more than are wanted, quorum ends it with fewer."""
    share = min(ready, max(minimum, math.ceil(fraction * ready - 1e-9)))
    asked = min(ready, math.ceil(share * over - 1e-9))
    wanted = min(asked, max(minimum, math.ceil(quorum * share - 1e-9)))
    return Size(asked, wanted)
