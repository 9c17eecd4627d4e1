"""Whom a run could ask now: what its devices have said last."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.federated.exchange import Node


@dataclass(frozen=True, slots=True)
class Turnout:
    """The run's devices: those that run its parent with a train step, and match its selector.

    Attributes:
        ready: would train, and have a link.
        away: would train, and have none.
        unready: would not, by the code that says why.
    """

    ready: int = 0
    away: int = 0
    unready: Mapping[str, int] = field(default_factory=dict)


def turnout_of(nodes: Iterable[Node]) -> Turnout:
    """How many of the devices are ready, and why others are not."""
    several = list(nodes)
    willing = [one for one in several if one.eligible]
    ready = sum(one.connected for one in willing)
    unready = Counter(one.reason for one in several if not one.eligible)
    return Turnout(ready, len(willing) - ready, dict(sorted(unready.items())))
