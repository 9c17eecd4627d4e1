"""Which nodes are asked: drawn, so that each is asked as often as the others."""

from collections.abc import Iterable, Sequence

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


def generator(*seed: int) -> np.random.Generator:
    """The same draws for the same numbers, not negative: of the run, and of the step in it."""
    return np.random.Generator(np.random.PCG64(list(seed)))
