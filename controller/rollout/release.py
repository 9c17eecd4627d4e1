"""How many devices may be released now: pace, and how many a site may have installing at once."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.rollout.policy import Pace

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is released now, and why no more.

    Attributes:
        held_by: what holds the others back, in words; empty if nothing does.
        again_at: when the pace admits the next one, in Unix seconds; infinite if it holds nobody back.
    """

    devices: tuple[str, ...]
    held_by: tuple[str, ...] = ()
    again_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Traffic:
    """What pace and sites allow is measured by.

    Attributes:
        released_at: of every device that the rollout has released, in Unix seconds, ascending.
        succeeded: how many of them have proven that they run the version.
        installing: how many of them are at it, by site.
    """

    released_at: Sequence[float]
    succeeded: int
    installing: Mapping[str, int]


def rate(pace: Pace, succeeded: int) -> float:
    """Devices a minute by now; infinite without a limit.

    >>> rate(Pace(per_minute=2, growth=2.0, growth_after=10), 25)
    8.0
    """
    if not pace.per_minute:
        return math.inf
    doublings = succeeded // pace.growth_after if pace.growth_after else 0
    try:
        return pace.per_minute * pace.growth**doublings
    except OverflowError:
        return math.inf


def admitted(
    due: Iterable[str], sites: Mapping[str, str], pace: Pace, traffic: Traffic, now: float
) -> Admission:
    """Whom of ``due`` to release now, in this order; ``sites`` by device, of those that have one."""
    left, held_by, again_at = _by_pace(pace, traffic, now), [], math.inf
    busy = Counter(traffic.installing)
    chosen: list[str] = []
    full: set[str] = set()
    for device in due:
        if len(chosen) >= left:
            held_by.append(f"{rate(pace, traffic.succeeded):g} devices a minute")
            again_at = _frees_at(pace, traffic, [now] * len(chosen), now)
            break
        site = sites.get(device, "")
        if pace.per_site and site and busy[site] >= pace.per_site:
            full.add(site)
            continue
        busy[site] += 1
        chosen.append(device)
    if full:
        names = ", ".join(sorted(full)[:3])
        held_by.append(f"{pace.per_site} at once in {names}")
    return Admission(tuple(chosen), tuple(held_by), again_at)


def _by_pace(pace: Pace, traffic: Traffic, now: float) -> float:
    """How many more may be released in the minute that ends now.

    Where the pace is below one a minute, the span is longer.
    """
    allowed, span = _allowed(pace, traffic)
    return allowed - len(_since(traffic, now - span))


def _allowed(pace: Pace, traffic: Traffic) -> tuple[float, float]:
    """How many may be released in so many seconds."""
    limit = rate(pace, traffic.succeeded)
    if math.isinf(limit):
        return limit, MINUTE
    span = max(MINUTE, MINUTE / limit)
    return max(1, math.floor(limit * span / MINUTE)), span


def _frees_at(pace: Pace, traffic: Traffic, new: Sequence[float], now: float) -> float:
    allowed, span = _allowed(pace, traffic)
    recent = sorted((*_since(traffic, now - span), *new))
    return recent[len(recent) - int(allowed)] + span


def _since(traffic: Traffic, at: float) -> Sequence[float]:
    """When devices were released after that."""
    return traffic.released_at[bisect_right(traffic.released_at, at) :]
