"""Whom a phase waits for no longer: devices whose link has been down for too long.

Nobody is dropped for that as long as others are waited for: whoever is back before the phase is over
still counts. What is known of links is from before this coordinator began, or from the time when the
controller was away: so nobody is given up sooner than ``Patience`` after either.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.federated.exchange import Node
from controller.federated.task import Task

NO_LINK: Final = "no-link"
LEFT: Final = "left"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a phase waits for devices without a link.

    Attributes:
        seconds: from when the link went down, or the device was asked, if that was later.
        fewest: with fewer good replies it waits on, to its deadline: they may come back.
    """

    seconds: float
    fewest: int


@dataclass(frozen=True, slots=True)
class Away:
    """A node that was asked, has not answered, and has no link.

    Attributes:
        until_ms: from then on nobody waits for it.
        code: why, as in outcomes.
        reason: the same in words.
    """

    node: int
    until_ms: int
    code: str
    reason: str


def away(
    tasks: Iterable[Task],
    answered: Collection[int],
    nodes: Sequence[Node],
    patience: Patience,
    began_ms: int,
) -> Mapping[int, Away]:
    """Those that can't be reached, by node id; ``began_ms`` is when this coordinator began to wait."""
    known = {one.id: one for one in nodes}
    found = {}
    for task in tasks:
        node = known.get(task.node)
        if task.node in answered or (node is not None and node.connected):
            continue
        since_ms = max(task.posted_ms, began_ms, node.away_ms if node is not None else 0)
        until_ms = since_ms + round(1000 * patience.seconds)
        if node is None:
            reason = "it was revoked, or runs another version now"
            found[task.node] = Away(task.node, until_ms, LEFT, reason)
        else:
            found[task.node] = Away(task.node, until_ms, NO_LINK, "it had no link")
    return found
