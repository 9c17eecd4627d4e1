"""Which nodes are asked: drawn, so that each is asked as often as the others.

In rotation nobody is asked again before all others have been: a *turn*. It is sampling without
replacement, drawn anew in every turn. The data of all devices are used alike in every turn, and not only
on average, which takes the variance of the draw out of the model (Malinovsky et al. 2023,
https://arxiv.org/abs/2302.03662; where groups return in the same order, Cho et al. 2023,
https://arxiv.org/abs/2302.03109); and training wears all batteries alike. Who declines, or never
answers, has had its turn like any other: nobody waits for them.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from controller.federated.exchange import Node


def ready(nodes: Iterable[Node]) -> tuple[int, ...]:
    """Those that have a link and would take part now, in order. One of two with the same id."""
    return tuple(sorted({one.id for one in nodes if one.connected and one.eligible}))


def drawn(nodes: Sequence[int], count: int, generator: np.random.Generator) -> tuple[int, ...]:
    """``count`` of the nodes, without repetition, in order; all if there are no more."""
    if count >= len(nodes):
        return tuple(sorted(nodes))
    places = generator.choice(len(nodes), size=count, replace=False)
    return tuple(sorted(nodes[place] for place in places))


def rotated(
    nodes: Sequence[int], count: int, asked: AbstractSet[int], generator: np.random.Generator
) -> tuple[int, ...]:
    """``count`` of the nodes, as ``drawn``, those first that are not among the ``asked`` of this turn.

    Where these do not suffice, all of them are, and the next turn begins with the rest.
    """
    waiting = [one for one in nodes if one not in asked]
    if count <= len(waiting):
        return drawn(waiting, count, generator)
    others = [one for one in nodes if one in asked]
    return tuple(sorted((*waiting, *drawn(others, count - len(waiting), generator))))


def turn_after(asked: AbstractSet[int], chosen: Iterable[int]) -> frozenset[int]:
    """Who has been asked in the turn, now that the ``chosen`` have been, too.

    Whoever was asked already has begun the next one.
    """
    several = frozenset(chosen)
    return several & asked or several | asked


def generator(*seed: int) -> np.random.Generator:
    """The same draws for the same numbers, not negative: of the run, and of the step in it."""
    return np.random.Generator(np.random.PCG64(list(seed)))
