"""Slow devices: whole rounds, a quorum, over-selection, and FedBuff, by the devices' own time."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from simulations.study.table import Cell, Scale, Table, mean_cell, middle
from simulations.study.trial import Course, Fleet, Tables, Trial, Value, courses

PARTITION: Final = "Dirichlet 0.5"
SLOW: Final = 0.8
WANTED: Final = 10
UPDATES: Final = 600
DEADLINE: Final = 3600.0
WAYS: Final[Mapping[str, Mapping[str, Value]]] = {
    "everybody is waited for": {},
    "quorum 0.8": {"quorum": 0.8},
    "over-selection 1.5": {"over_selection": 1.5},
    "FedBuff, 10 at work, buffer 10": {"mode": "buffered", "concurrency": 10, "buffer": 10},
    "FedBuff, 10 at work, buffer 5": {"mode": "buffered", "concurrency": 10, "buffer": 5},
    "FedBuff, 20 at work, buffer 10": {"mode": "buffered", "concurrency": 20, "buffer": 10},
}
GOOD, BETTER = 0.90, 0.95


def tables(scale: Scale, workers: int) -> list[Table]:
    """Times to an accuracy, by way."""
    trials = [trial for way in WAYS for trial in _trials(WAYS[way], scale)]
    played = iter(courses(trials, workers))
    rows = [_row(way, list(islice(played, scale.seeds))) for way in WAYS]
    return [
        Table(
            "asynchronous",
            "Slow devices: minutes of device-time until the model is good",
            ("way", "to 90 %", "to 95 %", "in all", "updates", "accuracy"),
            tuple(rows),
            (
                f"FedAvg, {PARTITION}, {scale.seeds} seeds, median; 20 devices, of which rounds want 10.",
                f"A training takes a minute at the median; log-normal, {SLOW:g} between devices.",
            ),
        )
    ]


def _trials(way: Mapping[str, Value], scale: Scale) -> list[Trial]:
    updates = way.get("buffer", WANTED * float(way.get("quorum", 1.0)))
    rounds = min(round(UPDATES / float(updates)), scale.rounds * 2)
    tables: Tables = {
        "run": {"rounds": rounds},
        "round": {"over_selection": 1.0, "deadline": DEADLINE, **way},
    }
    return [Trial(Fleet(PARTITION, slow=SLOW), tables, seed) for seed in range(scale.seeds)]


def _row(way: str, several: Sequence[Course]) -> tuple[Cell, ...]:
    counted = [sum(one.admitted for one in course.records) for course in several]
    return (
        way,
        _minutes([one.seconds_to(GOOD) for one in several]),
        _minutes([one.seconds_to(BETTER) for one in several]),
        _minutes([one.seconds for one in several]),
        round(statistics.mean(counted)),
        mean_cell([one.accuracy for one in several]),
    )


def _minutes(seconds: Sequence[float | None]) -> float | None:
    found = middle(seconds)
    return None if found is None else found / 60
