"""How many examples a device keeps, for how long, and which of them goes first."""

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
    over = totals.examples > retention.examples or totals.size > retention.size
    return largest(totals) if over else None


def is_full(totals: Totals, retention: Retention) -> bool:
    """Whether one example more, as large as those that are kept, would have another go."""
    mean = totals.size / max(1, totals.examples)
    return totals.examples >= retention.examples or totals.size + mean > retention.size


def largest(totals: Totals) -> int:
    """The group with the most examples, of several the first. There are some."""
    return max(totals.groups, key=lambda group: (totals.groups[group], -group))
