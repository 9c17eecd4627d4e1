"""Each of Flower's strategies on each partition, beside the same task without Muster; and int8."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from simulations.study.digits import PARTITIONS
from simulations.study.reference import references
from simulations.study.table import Scale, Table, difference_cell, mean_cell, middle, shown
from simulations.study.trial import Course, Fleet, Tables, Trial, Value, courses

TARGET: Final = 0.95
ADAPTIVE: Final[Mapping[str, Value]] = {"eta": 0.01, "tau": 0.001}
STRATEGIES: Final[Mapping[str, Mapping[str, Value]]] = {
    "FedAvg": {},
    "FedProx": {},
    "FedAvgM": {"server_momentum": 0.7},
    "FedAdam": ADAPTIVE,
    "FedTrimmedAvg": {"beta": 0.2},
    "FedMedian": {},
    "MultiKrum": {"num_malicious_nodes": 2, "num_nodes_to_select": 6},
    "FedYogi": ADAPTIVE,
    "FedAdagrad": ADAPTIVE,
    "Krum": {"num_malicious_nodes": 2},
    "Bulyan": {"num_malicious_nodes": 1},  # of ten, it withstands no more: 4 f + 3 <= n
}
PROXIMAL: Final = 0.1

TOLD: Final[Mapping[str, Sequence[float]]] = {
    "FedAvg": (0.9733, 0.9696, 0.9459, 0.9467),
    "FedProx": (0.9726, 0.9696, 0.9430, 0.9459),
    "FedAvgM": (0.9726, 0.9719, 0.9533, 0.9637),
    "FedAdam": (0.9719, 0.9681, 0.9511, 0.9452),
    "FedTrimmedAvg": (0.9711, 0.9667, 0.9156, 0.9081),
    "FedMedian": (0.9711, 0.9637, 0.8756, 0.8911),
    "MultiKrum": (0.9615, 0.9489, 0.7889, 0.7763),
}
"""By partition, in their order: what the same task came to once, in numpy under Flower's own
``Strategy.start``, as the mean of three seeds."""

AVERAGED: Final = 0.1
"""``average_last``: of what is trained nothing hangs on it, so the same run tells of both."""

ABLATED: Final = ("FedAvg", "FedMedian")
"""Strategies that are run without rotation, too."""


def strategy_tables(name: str) -> dict[str, Mapping[str, Value]]:
    """What a run file says of a strategy, but how many devices it wants."""
    tables: dict[str, Mapping[str, Value]] = {"strategy": {"name": name, **STRATEGIES[name]}}
    if name == "FedProx":
        tables["training"] = {"proximal": PROXIMAL}
    return tables


@dataclass(frozen=True, slots=True)
class Setting:
    """What a cell is of.

    Attributes:
        name: of the strategy.
        encoding: of updates.
        rotation: whether devices take turns.
    """

    name: str
    partition: str
    encoding: str = "int8"
    rotation: bool = True

    def trials(self, scale: Scale) -> list[Trial]:
        """One for each seed."""
        usual = strategy_tables(self.name)
        tables: Tables = {
            **usual,
            "strategy": {**usual["strategy"], "average_last": AVERAGED},
            "run": {"rounds": scale.rounds},
            "round": {"rotation": self.rotation},
            "update": {"encoding": self.encoding},
        }
        return [Trial(Fleet(self.partition), tables, seed) for seed in range(scale.seeds)]


Found = Mapping[Setting, Sequence[Course]]


def tables(scale: Scale, workers: int) -> list[Table]:
    """Accuracies beside Flower's own, rounds to 95 %, what each device's turn brings, and int8."""
    usual = [
        Setting(name, partition)
        for name in STRATEGIES
        for partition in PARTITIONS
        if scale.has(name) and scale.has(partition)
    ]
    partitions = list(dict.fromkeys(one.partition for one in usual))
    drawn = [replace(one, rotation=False) for one in usual if one.name in ABLATED]
    floats = [replace(one, encoding="float32") for one in usual if one.name == "FedAvg"]
    found = _played([*usual, *drawn, *floats], scale, courses, workers)
    theirs = _played([one for one in usual if one.name in TOLD], scale, references, workers)
    return [
        _accuracies(found, theirs, partitions, scale),
        _reference(theirs, partitions),
        _means(found, theirs, partitions),
        _rounds(found, theirs, partitions),
        _turns(found),
        _encodings(found),
    ]


Play = Callable[[Sequence[Trial], int], Iterator[Course]]


def _played(settings: Sequence[Setting], scale: Scale, play: Play, workers: int) -> Found:
    played = play([trial for one in settings for trial in one.trials(scale)], workers)
    return {one: list(islice(played, scale.seeds)) for one in settings}


def _matrix(
    cell: Callable[[Setting], str], settings: Iterable[Setting], partitions: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """A row for each strategy, a column for each partition."""
    names = dict.fromkeys(one.name for one in settings)
    return tuple((name, *(cell(Setting(name, one)) for one in partitions)) for name in names)


def _accuracies(found: Found, theirs: Found, partitions: Sequence[str], scale: Scale) -> Table:
    def cell(setting: Setting) -> str:
        return _beside([one.last_accuracy for one in found[setting]], theirs.get(setting))

    return Table(
        "strategies",
        f"Accuracy after {scale.rounds} rounds, {scale.seeds} seeds, int8 updates",
        ("strategy", *partitions),
        _matrix(cell, found, partitions),
        (
            "Mean ± standard deviation on the 450 digits of the test set.",
            "In brackets, the difference to the next table by seed, ± its standard error.",
        ),
    )


def _beside(mine: Sequence[float], theirs: Sequence[Course] | None) -> str:
    if theirs is None:
        return mean_cell(mine)
    return f"{mean_cell(mine)} ({difference_cell(mine, [one.accuracy for one in theirs])})"


def _reference(theirs: Found, partitions: Sequence[str]) -> Table:
    def cell(setting: Setting) -> str:
        told = TOLD[setting.name][list(PARTITIONS).index(setting.partition)]
        return f"{mean_cell([one.accuracy for one in theirs[setting]])} ({told:.4f})"

    return Table(
        "reference",
        "The same in numpy under Flower's own `Strategy.start`, float32",
        ("strategy", *partitions),
        _matrix(cell, theirs, partitions),
        (
            "The same seeds, partitions and first parameters. In brackets, as it was once, 60 rounds.",
        ),
    )


def _means(found: Found, theirs: Found, partitions: Sequence[str]) -> Table:
    def cell(setting: Setting) -> str:
        return _beside([one.accuracy for one in found[setting]], theirs.get(setting))

    return Table(
        "means",
        f"The same runs with `average_last = {AVERAGED:g}`",
        ("strategy", *partitions),
        _matrix(cell, found, partitions),
    )


def _rounds(found: Found, theirs: Found, partitions: Sequence[str]) -> Table:
    def told(several: Sequence[Course]) -> str:
        return shown(middle([one.rounds_to(TARGET) for one in several]))

    def cell(setting: Setting) -> str:
        mine = told(found[setting])
        return f"{mine} ({told(theirs[setting])})" if setting in theirs else mine

    return Table(
        "rounds-to-95",
        "Rounds until 95 % of the test set are right, median",
        ("strategy", *partitions),
        _matrix(cell, found, partitions),
        ("Of global models, not of their mean. In brackets, in numpy under Flower's own.",),
    )


def _turns(found: Found) -> Table:
    rows = []
    for setting, drawn in found.items():
        if not setting.rotation:
            turns = found[replace(setting, rotation=True)]
            rows.append(
                (
                    setting.name,
                    setting.partition,
                    mean_cell([one.last_accuracy for one in drawn]),
                    mean_cell([one.accuracy for one in drawn]),
                    mean_cell([one.last_accuracy for one in turns]),
                    mean_cell([one.accuracy for one in turns]),
                )
            )
    return Table(
        "turns",
        "What rotation and the mean of the last models bring, each by itself",
        ("strategy", "partition", "neither", "mean alone", "rotation alone", "both"),
        tuple(rows),
    )


def _encodings(found: Found) -> Table:
    rows = []
    for setting, floats in found.items():
        if setting.encoding == "float32":
            steps = found[replace(setting, encoding="int8")]
            rows.append(
                (
                    setting.partition,
                    mean_cell([one.last_accuracy for one in steps]),
                    mean_cell([one.last_accuracy for one in floats]),
                    _reply_bytes(steps),
                    _reply_bytes(floats),
                )
            )
    return Table(
        "encodings",
        "FedAvg with int8 updates and error feedback, beside float32",
        ("partition", "int8", "float32", "bytes of a reply, int8", "float32"),
        tuple(rows),
    )


def _reply_bytes(several: Sequence[Course]) -> int:
    records = [record for course in several for record in course.records]
    return round(
        sum(one.bytes_up for one in records) / max(1, sum(one.selected for one in records))
    )
