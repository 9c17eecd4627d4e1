"""Which version stands where in a slot, as values: what every change leaves, and what it lets go.

1. A model's candidate is in memory and answers nothing.
2. ``activated``: the candidate answers in a slot; what answered before stays warm behind it.
3. ``committed``: what answers is proven; what is behind it is let go.
4. ``reverted``: an unproven version is let go, and what is behind it answers again. A proven version
   stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from agent.errors import NotReady, UnknownModel

CHAMPION: Final = "champion"
"""The slot that answers a request which names no version."""


class Versioned(Protocol):
    """Whatever serves one version."""

    @property
    def version(self) -> int:
        """The model version's number."""
        ...


D = TypeVar("D", bound=Versioned)


@dataclass(frozen=True, slots=True)
class Standing(Generic[D]):
    """One slot.

    Attributes:
        active: answers requests.
        previous: answered before, and is warm.
        proven: ``active`` has been committed.
    """

    active: D | None = None
    previous: D | None = None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Change(Generic[D]):
    """A slot after a change, and what no longer stands in it."""

    standing: Standing[D]
    released: tuple[D, ...] = ()


def activated(standing: Standing[D], candidate: D) -> Change[D]:
    """``candidate`` answers.

    If what answers now is not proven either, what is behind *it* stays: that is what a revert goes
    back to.
    """
    if standing.previous is None or standing.proven:
        return Change(Standing(candidate, standing.active), present(standing.previous))
    return Change(Standing(candidate, standing.previous), present(standing.active))


def committed(standing: Standing[D]) -> Change[D]:
    """What answers is proven."""
    return Change(
        replace(standing, previous=None, proven=standing.active is not None),
        present(standing.previous),
    )


def reverted(standing: Standing[D]) -> Change[D]:
    """What is behind answers again, and is proven; without one, nothing answers.

    A proven version stays: nothing that came after it ever answered.
    """
    if standing.proven:
        return Change(standing)
    return Change(
        Standing(standing.previous, proven=standing.previous is not None),
        present(standing.active),
    )


def removed(standing: Standing[D]) -> Change[D]:
    """Nothing stands in the slot."""
    return Change(Standing(), present(standing.active, standing.previous))


def present(*deployments: D | None) -> tuple[D, ...]:
    """Those that are not None."""
    return tuple(one for one in deployments if one is not None)


@dataclass(frozen=True, slots=True)
class Table(Generic[D]):
    """Every slot by (model, slot), every candidate by model, and what answers by (model, version).

    Version None is the champion. A table never changes: who looks twice at one sees the same.
    """

    slots: Mapping[tuple[str, str], Standing[D]]
    candidates: Mapping[str, D]
    answers: Mapping[tuple[str, int | None], D]


def table_of(slots: Mapping[tuple[str, str], Standing[D]], candidates: Mapping[str, D]) -> Table[D]:
    """The table of ``slots``, without the empty ones, and ``candidates``."""
    kept = {key: standing for key, standing in slots.items() if standing != Standing()}
    answers: dict[tuple[str, int | None], D] = {}
    for (model, slot), standing in kept.items():
        if standing.active is not None:
            # Two slots may run one version: the champion's answers for both.
            if slot == CHAMPION or (model, standing.active.version) not in answers:
                answers[model, standing.active.version] = standing.active
            if slot == CHAMPION:
                answers[model, None] = standing.active
    return Table(kept, candidates, answers)


def answering(table: Table[D], model: str, version: int | None) -> D:
    """What answers a request for ``model``: for that version, or the champion.

    Raises:
        UnknownModel: no such model here, or not that version.
        NotReady: the model is on its way.
    """
    found = table.answers.get((model, version))
    if found is not None:
        return found
    candidate = table.candidates.get(model)
    known = any(name == model for name, _ in table.slots)
    if candidate is not None and version in {None, candidate.version}:
        raise NotReady(f"version {candidate.version} of model {model!r} is not ready")
    if known and version is None:
        raise NotReady(f"model {model!r} has no champion")
    if known or candidate is not None:
        raise UnknownModel(f"unknown version {version} of model {model!r}")
    raise UnknownModel(f"unknown model {model!r}")
