"""How many examples a device keeps, for how long, and which of them goes first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from protos.limits import MIB

DAY_SECONDS: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds of what is kept of one model.

    Attributes:
        examples: at most so many.
        size: at most so many bytes of rows.
        seconds: none is kept for longer.
        hold_out: the share that training never sees.
    """

    examples: int = 2000
    size: int = 64 * MIB
    seconds: float = 30 * DAY_SECONDS
    hold_out: float = 0.2


@dataclass
class Totals:
    """What is kept of one model: kept right by whoever adds and removes."""

    size: int = 0
    groups: dict[int, int] = field(default_factory=dict)

    def add(self, group: int, examples: int, size: int) -> None:
        """So many more; fewer, if negative."""
        self.size += size
        self.groups[group] = self.groups.get(group, 0) + examples

    @property
    def examples(self) -> int:
        """In all groups."""
        return sum(self.groups.values())


def group_to_go(totals: Totals, retention: Retention) -> int | None:
    """Of which group an example must go: of the largest; None while all is within bounds.

    So a class that is rarely seen keeps its examples while a common one renews its own.
    """
    if totals.examples <= retention.examples and totals.size <= retention.size:
        return None
    return _largest(totals.groups)


def _largest(groups: Mapping[int, int]) -> int | None:
    return max(groups, key=lambda group: (groups[group], -group)) if any(groups.values()) else None
