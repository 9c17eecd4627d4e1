"""Which way to the controller is taken when there are several (pure).

A device's routes stand in order of preference; a route's rank is its place in it, 0 the best. The
rules:

1. A round dials one route right after the other until one answers. There is a wait only after a whole
   round, and after a link has ended.
2. A round goes by preference, but what failed a moment ago comes last: a path that swallows every
   packet costs a round as long as a dial takes to give up. A link that ended young was a failure of
   its route: what lets one in and cuts it a minute later is not a way to stay on.
3. What the controller refuses, it refuses: no link comes up before the controller has proven who it is,
   so its no is the same on every route. The round ends, and the wait is long.
4. On a route that is not the preferred one, the better ones are looked at from time to time. Looks
   become rarer until a link over the preferred route has lasted; whether they find nobody, or somebody
   who is gone again at once, makes no difference.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from agent.errors import AgentError, Refused, TransportError
from agent.transport.backoff import Backoff
from agent.transport.link import Dialer

RAREST: Final = 12
"""Looks become rarer up to so many times the first wait: an hour, if that is five minutes."""
JITTER: Final = 0.5
"""Of the waits between looks: a fleet that fell back together does not come back together."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way to the controller, by the name that people know it by: "grpc"."""

    name: str
    dialer: Dialer


@dataclass(frozen=True, slots=True)
class Patience:
    """How to wait, in seconds.

    Attributes:
        unanswered: between rounds, when nobody answered.
        refused: between rounds, when the controller does not want this device: a person must act first.
        looks: between looks at better routes, as ceilings; the first is also for how long a failed route
            comes last.
        stable_after: a link that lived so long starts the schedules afresh.
        gives_up: on a dial that neither ends nor fails.
    """

    unanswered: Backoff = field(default_factory=lambda: Backoff(base=1.0, cap=60.0))
    refused: Backoff = field(default_factory=lambda: Backoff(base=60.0, cap=900.0))
    looks: Backoff = field(default_factory=lambda: looks_every(300.0))
    stable_after: float = 60.0
    gives_up: float = 60.0


def looks_every(seconds: float) -> Backoff:
    """First after so many seconds, then more and more rarely."""
    return Backoff(base=seconds, cap=RAREST * seconds)


@dataclass(frozen=True, slots=True)
class Known:
    """What has been found out of the routes. Times are the clock's monotonic seconds.

    Attributes:
        failed_at: by rank, when the route failed last; None if never.
        pauses: how many waits there were since a link last lasted.
        looks: how many there were since a link over the preferred route last lasted.
    """

    failed_at: tuple[float | None, ...]
    pauses: int = 0
    looks: int = 0


def nothing_known(routes: int) -> Known:
    """Where it begins."""
    return Known((None,) * routes)


def order(known: Known, patience: Patience, now: float) -> tuple[int, ...]:
    """The ranks of all routes, as this round dials them."""

    def last(rank: int) -> bool:
        at = known.failed_at[rank]
        return at is not None and now - at < patience.looks.base

    return tuple(sorted(range(len(known.failed_at)), key=lambda rank: (last(rank), rank)))


def ends_round(error: AgentError) -> bool:
    """Whether no other route needs to be dialled: the controller itself has answered."""
    return isinstance(error, Refused)


def after_dial(known: Known, rank: int, error: AgentError, now: float) -> Known:
    """What is known once a dial has failed. A refusal is an answer: nothing is wrong with its route."""
    return known if ends_round(error) else _failed(known, rank, now)


def after_link(known: Known, rank: int, lived: float, patience: Patience) -> Known:
    """What is known once a link was left for a better one, after so many seconds."""
    if lived < patience.stable_after:
        return known
    return replace(known, pauses=0, looks=known.looks if rank else 0)


def after_loss(known: Known, rank: int, lived: float, patience: Patience, now: float) -> Known:
    """What is known once a link has ended by itself, after so many seconds."""
    if lived < patience.stable_after:
        return _failed(known, rank, now)
    return after_link(known, rank, lived, patience)


def after_look(known: Known) -> Known:
    """What is known once better routes have been looked at, whatever came of it."""
    return replace(known, looks=known.looks + 1)


def pause(
    known: Known, error: AgentError, patience: Patience, rng: random.Random
) -> tuple[Known, float]:
    """Seconds until the next round, after a round or a link that ended with this error."""
    schedule = patience.refused if ends_round(error) else patience.unanswered
    return replace(known, pauses=known.pauses + 1), schedule.delay(known.pauses, rng)


def next_look(known: Known, rank: int, patience: Patience, rng: random.Random) -> float | None:
    """Seconds until better routes than the live one are looked at; None if there are none."""
    if not rank:
        return None
    return patience.looks.ceiling(known.looks) * rng.uniform(1 - JITTER, 1 + JITTER)


def why(failures: Sequence[tuple[str, AgentError]]) -> AgentError:
    """One error for a round of at least one failure: by name of the route, as they came."""
    last = failures[-1][1]
    if len(failures) == 1 or ends_round(last):
        return last
    return TransportError("; ".join(f"{name}: {error.detail}" for name, error in failures))


def _failed(known: Known, rank: int, now: float) -> Known:
    before, after = known.failed_at[:rank], known.failed_at[rank + 1 :]
    return replace(known, failed_at=(*before, now, *after))
