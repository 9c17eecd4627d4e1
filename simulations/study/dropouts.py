"""Devices drop out in the middle of rounds: what over-selection and a deadline make of it."""

import statistics
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from simulations.study.table import Cell, Scale, Table, mean_cell
from simulations.study.trial import Course, Fleet, Tables, Trial, courses

PARTITION: Final = "Dirichlet 0.5"
SILENT: Final = (0.0, 0.1, 0.2, 0.3)
ROUNDS: Final = 40
SLOW: Final = 0.5
OVER_SELECTION: Final = (1.0, 1.3)
DEADLINE: Final = 600.0


def tables(scale: Scale, workers: int) -> list[Table]:
    """Accuracies and times by the share that drops out."""
    cells = [(silent, over) for silent in SILENT for over in OVER_SELECTION]
    trials = [trial for cell in cells for trial in _trials(*cell, scale)]
    played = iter(courses(trials, workers))
    rows = [(_row(*cell, list(islice(played, scale.seeds)))) for cell in cells]
    return [
        Table(
            "dropouts",
            f"Devices drop out of rounds: FedAvg, {scale.at_most(ROUNDS)} rounds",
            ("never answer", "`over_selection`", "accuracy", "replies a round", "seconds a round"),
            tuple(rows),
            (
                f"{PARTITION}, {scale.seeds} seeds, 10 of 20 devices wanted, `deadline` 10 min.",
                "Seconds are those of the devices: a training takes about a minute, on some two.",
            ),
        )
    ]


def _trials(silent: float, over: float, scale: Scale) -> Iterator[Trial]:
    tables: Tables = {
        "run": {"rounds": scale.at_most(ROUNDS)},
        "round": {"over_selection": over, "deadline": DEADLINE},
    }
    fleet = Fleet(PARTITION, silent=silent, slow=SLOW)
    return (Trial(fleet, tables, seed) for seed in range(scale.seeds))


def _row(silent: float, over: float, several: Sequence[Course]) -> tuple[Cell, ...]:
    records = [record for course in several for record in course.records]
    return (
        f"{100 * silent:.0f} %",
        over,
        mean_cell([one.accuracy for one in several]),
        statistics.mean(one.admitted for one in records),
        statistics.mean(one.ended_ms - one.began_ms for one in records) / 1000,
    )
