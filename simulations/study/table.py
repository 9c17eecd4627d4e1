"""What a part of the study has found: a table for people, and the same as JSON."""

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Table:
    """One figure.

    Attributes:
        name: for programs.
        title: what was done.
        columns: of each row, the first says what it is of.
        notes: what a reader must know to believe it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """For people."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line([shown(cell) for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", *(f"{one}\n" for one in self.notes)])


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of the study is run.

    Attributes:
        rounds: of a run, at most.
        seeds: of each cell.
        names: strategies, attacks and partitions that are left out have no name here; all if none is.
    """

    rounds: int = 60
    seeds: int = 3
    names: frozenset[str] = frozenset()

    def has(self, name: str) -> bool:
        """Whether what bears that name is run."""
        return not self.names or name in self.names

    def at_most(self, rounds: int) -> int:
        """So many rounds, unless fewer are to be run."""
        return min(rounds, self.rounds)


def shown(cell: Cell) -> str:
    """As people read it."""
    match cell:
        case None:
            return "never"
        case float():
            return f"{cell:.4g}"
        case _:
            return str(cell)


def as_json(tables: Sequence[Table]) -> str:
    """For programs."""
    found: dict[str, Any] = {one.name: dataclasses.asdict(one) for one in tables}
    return json.dumps(found, indent=1) + "\n"


def mean_cell(values: Sequence[float]) -> str:
    """Mean and standard deviation of accuracies over seeds."""
    spread = statistics.pstdev(values)
    return f"{statistics.mean(values):.4f} ± {spread:.3f}"


def difference_cell(mine: Sequence[float], theirs: Sequence[float]) -> str:
    """The mean of the differences, one by one, and its standard error, if there is more than one."""
    differences = [one - other for one, other in zip(mine, theirs, strict=True)]
    mean = statistics.mean(differences)
    if len(differences) == 1:
        return f"{mean:+.4f}"
    return f"{mean:+.4f} ± {statistics.stdev(differences) / math.sqrt(len(differences)):.4f}"


def middle(values: Sequence[float | None]) -> float | None:
    """The median; what was never reached counts as endless."""
    ordered = sorted(float("inf") if one is None else one for one in values)
    found = ordered[len(ordered) // 2]
    return None if found == float("inf") else found


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
