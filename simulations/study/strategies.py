"""Each of Flower's strategies on each partition, beside the same task without Muster; and int8."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from simulations.study.digits import IID, PARTITIONS, TWO_SHARDS
from simulations.study.table import Cell, Scale, Table, mean_cell, middle, shown
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

REFERENCE: Final[Mapping[str, Mapping[str, float]]] = {
    "FedAvg": dict(zip(PARTITIONS, (0.9733, 0.9696, 0.9459, 0.9467), strict=True)),
    "FedProx": dict(zip(PARTITIONS, (0.9726, 0.9696, 0.9430, 0.9459), strict=True)),
    "FedAvgM": dict(zip(PARTITIONS, (0.9726, 0.9719, 0.9533, 0.9637), strict=True)),
    "FedAdam": dict(zip(PARTITIONS, (0.9719, 0.9681, 0.9511, 0.9452), strict=True)),
    "FedTrimmedAvg": dict(zip(PARTITIONS, (0.9711, 0.9667, 0.9156, 0.9081), strict=True)),
    "FedMedian": dict(zip(PARTITIONS, (0.9711, 0.9637, 0.8756, 0.8911), strict=True)),
    "MultiKrum": dict(zip(PARTITIONS, (0.9615, 0.9489, 0.7889, 0.7763), strict=True)),
}
"""Mean of three seeds: the same task in numpy, under Flower's own ``Strategy.start``, float32."""

REFERENCE_ROUNDS: Final[Mapping[str, Mapping[str, int]]] = {
    "FedAvg": dict(zip(PARTITIONS, (11, 12, 33, 43), strict=True)),
    "FedAvgM": dict(zip(PARTITIONS, (8, 10, 21, 37), strict=True)),
}
ACCEPTED: Final[Mapping[str, float]] = {IID: 0.965, "Dirichlet 0.5": 0.955, TWO_SHARDS: 0.93}
"""What FedAvg must reach at least."""

WITHOUT_REFERENCE: Final = ("Dirichlet 0.5", TWO_SHARDS)
"""Partitions on which strategies are run of which nothing is known from elsewhere."""


def strategy_tables(name: str) -> dict[str, Mapping[str, Value]]:
    """What a run file says of a strategy, but how many devices it wants."""
    tables: dict[str, Mapping[str, Value]] = {"strategy": {"name": name, **STRATEGIES[name]}}
    if name == "FedProx":
        tables["training"] = {"proximal": PROXIMAL}
    return tables


def _cells(scale: Scale) -> Iterator[tuple[str, str]]:
    for name in STRATEGIES:
        for partition in PARTITIONS if name in REFERENCE else WITHOUT_REFERENCE:
            if scale.has(name) and scale.has(partition):
                yield name, partition


def _trials(name: str, partition: str, scale: Scale, encoding: str) -> list[Trial]:
    tables: Tables = {
        **strategy_tables(name),
        "run": {"rounds": scale.rounds},
        "update": {"encoding": encoding},
    }
    return [Trial(Fleet(partition), tables, seed) for seed in range(scale.seeds)]


def tables(scale: Scale, workers: int) -> list[Table]:
    """Accuracies, rounds to 95 %, and int8 beside float32."""
    cells = list(_cells(scale))
    trials = [
        trial for name, partition in cells for trial in _trials(name, partition, scale, "int8")
    ]
    floats = [
        trial
        for partition in _partitions(scale)
        for trial in _trials("FedAvg", partition, scale, "float32")
    ]
    played = iter(courses([*trials, *floats], workers))
    found = {cell: list(islice(played, scale.seeds)) for cell in cells}
    as_floats = {one: list(islice(played, scale.seeds)) for one in _partitions(scale)}
    return [
        _accuracies(found, scale),
        _steady(found, scale),
        _rounds(found, scale),
        _encodings(found, as_floats),
    ]


def _partitions(scale: Scale) -> list[str]:
    return [one for one in PARTITIONS if scale.has(one)]


Found = Mapping[tuple[str, str], Sequence[Course]]


def _accuracies(found: Found, scale: Scale) -> Table:
    def cell(name: str, partition: str) -> Cell:
        courses = found.get((name, partition))
        if not courses:
            return ""
        mine = mean_cell([one.accuracy for one in courses])
        theirs = REFERENCE.get(name, {}).get(partition)
        return mine if theirs is None else f"{mine} ({_difference(courses, theirs):+.4f})"

    partitions = _partitions(scale)
    names = dict.fromkeys(name for name, _ in found)
    return Table(
        "strategies",
        f"Accuracy after {scale.rounds} rounds, {scale.seeds} seeds, int8 updates",
        ("strategy", *partitions),
        tuple((name, *(cell(name, one) for one in partitions)) for name in names),
        (
            "Mean ± standard deviation on the 450 digits of the test set.",
            "In brackets, the difference to the same in numpy under Flower's own `Strategy.start`.",
        ),
    )


def _difference(courses: Sequence[Course], theirs: float) -> float:
    return statistics.mean(one.accuracy for one in courses) - theirs


def _steady(found: Found, scale: Scale) -> Table:
    def cell(name: str, partition: str) -> Cell:
        courses = found.get((name, partition))
        return mean_cell([one.steady_accuracy for one in courses]) if courses else ""

    partitions = _partitions(scale)
    names = dict.fromkeys(name for name, _ in found)
    return Table(
        "steady",
        "The same, as the mean of the last ten rounds",
        ("strategy", *partitions),
        tuple((name, *(cell(name, one) for one in partitions)) for name in names),
    )


def _rounds(found: Found, scale: Scale) -> Table:
    def cell(name: str, partition: str) -> Cell:
        courses = found.get((name, partition))
        if not courses:
            return ""
        rounds = middle([one.rounds_to(TARGET) for one in courses])
        mine = shown(rounds if rounds is None else int(rounds))
        theirs = REFERENCE_ROUNDS.get(name, {}).get(partition)
        return mine if theirs is None else f"{mine} ({theirs})"

    partitions = _partitions(scale)
    names = dict.fromkeys(name for name, _ in found)
    return Table(
        "rounds-to-95",
        "Rounds until 95 % of the test set are right, median",
        ("strategy", *partitions),
        tuple((name, *(cell(name, one) for one in partitions)) for name in names),
        ("In brackets, the same without Muster, where it is known.",),
    )


def _encodings(found: Found, as_floats: Mapping[str, Sequence[Course]]) -> Table:
    rows = []
    for partition, floats in as_floats.items():
        steps = found.get(("FedAvg", partition))
        if steps:
            rows.append(
                (
                    partition,
                    mean_cell([one.accuracy for one in steps]),
                    mean_cell([one.accuracy for one in floats]),
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
