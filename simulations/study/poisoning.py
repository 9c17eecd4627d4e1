"""Two of ten devices mean no good: what each strategy makes of it, by how norms are compared."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from simulations.study.attack import ATTACKS
from simulations.study.strategies import strategy_tables
from simulations.study.table import Scale, Table, mean_cell
from simulations.study.trial import Course, Fleet, Trial, courses

PARTITION: Final = "Dirichlet 0.5"
DEVICES: Final = 10
POISONERS: Final = 2
ROUNDS: Final = 15
NORM_RATIOS: Final = (0.0, 10.0, 3.0)
"""None, the default, and a strict one."""

NOBODY: Final = ""
"""The attack of a fleet in which nobody means any harm."""

AGAINST: Final = ("FedAvg", "FedAvgM", "FedTrimmedAvg", "FedMedian", "MultiKrum", "Krum", "Bulyan")

Cell = tuple[str, str, float]
"""Strategy, attack, and ``norm_ratio``."""


def _cells(scale: Scale) -> Iterator[Cell]:
    for name in AGAINST:
        for attack in (NOBODY, *ATTACKS):
            for ratio in NORM_RATIOS if attack else NORM_RATIOS[-1:]:
                if scale.has(name) and (not attack or scale.has(attack)):
                    yield name, attack, ratio


def _trials(cell: Cell, scale: Scale) -> list[Trial]:
    name, attack, ratio = cell
    tables = strategy_tables(name)
    tables["strategy"] = {**tables["strategy"], "fraction": 1.0}
    tables["run"] = {"rounds": scale.at_most(ROUNDS)}
    tables["admission"] = {"norm_ratio": ratio}
    fleet = Fleet(PARTITION, DEVICES, POISONERS if attack else 0, attack)
    return [Trial(fleet, tables, seed) for seed in range(scale.seeds)]


def tables(scale: Scale, workers: int) -> list[Table]:
    """Accuracies by strategy, attack and check."""
    cells = list(_cells(scale))
    trials = [trial for cell in cells for trial in _trials(cell, scale)]
    played = iter(courses(trials, workers))
    found = {cell: list(islice(played, scale.seeds)) for cell in cells}
    attacks = [one for one in ATTACKS if scale.has(one)]
    columns = ["nobody"]
    for attack in attacks:
        columns += [f"{attack}: {NORM_RATIOS[0]:g}", *(f"{one:g}" for one in NORM_RATIOS[1:])]
    rows = []
    for name in dict.fromkeys(name for name, _, _ in cells):
        row = [mean_cell([one.accuracy for one in found[name, NOBODY, NORM_RATIOS[-1]]])]
        for attack in attacks:
            row += [_cell(found[name, attack, ratio]) for ratio in NORM_RATIOS]
        rows.append((name, *row))
    return [
        Table(
            "poisoning",
            f"{POISONERS} of {DEVICES} devices poison: accuracy after {scale.at_most(ROUNDS)} rounds",
            ("strategy", *columns),
            tuple(rows),
            (
                f"{PARTITION}, {scale.seeds} seeds; all ten are asked in each round.",
                "By `norm_ratio`; 0 is no check, 10 the default. The other checks are always on.",
                "In brackets, the share of the poisoners' replies that were refused.",
            ),
        )
    ]


def _cell(several: list[Course]) -> str:
    failed = next((one.error for one in several if one.error), "")
    shown = mean_cell([one.accuracy for one in several])
    refused = [
        sum(one.reasons.get("norm-of-cohort", 0) for one in course.records)
        / (POISONERS * max(1, len(course.records)))
        for course in several
    ]
    share = sum(refused) / len(refused)
    told = f" ({100 * share:.0f} %)" if share else ""
    return f"{shown}{told}" + (" failed" if failed else "")
