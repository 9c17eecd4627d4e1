"""The study's runs are the product's: few rounds of few devices, and that figures say what happened."""

import importlib
import json
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest

from controller.federated.run_file import stored_plan
from simulations.study import asynchronous, dropouts, memory, poisoning, strategies
from simulations.study.__main__ import PARTS, main
from simulations.study.attack import BACKWARDS, CRUDE, FALSE_LABELS
from simulations.study.digits import IID, PARTITIONS, TWO_SHARDS, digits, partition
from simulations.study.reference import reference
from simulations.study.strategies import STRATEGIES, strategy_tables
from simulations.study.table import Scale, Table, as_json, difference_cell, middle
from simulations.study.trial import Course, Fleet, Trial, Value, play

FEW = Scale(rounds=2, seeds=1)
TABLES = ["strategies", "reference", "means", "rounds-to-95", "turns", "encodings"]
WHOLE: dict[str, Value] = {"fraction": 1.0}


def trial(fleet: Fleet, seed: int = 0, **tables: dict[str, Value]) -> Trial:
    usual: dict[str, dict[str, Value]] = {
        "run": {"rounds": 2},
        "strategy": WHOLE,
        "training": {"epochs": 1},
    }
    return Trial(fleet, usual | tables, seed)


@pytest.fixture(scope="module")
def course() -> Course:
    return play(trial(Fleet(IID, devices=4), seed=1))


def test_a_run_learns_over_the_products_own_channel(course: Course) -> None:
    assert len(course.accuracies) == 3
    assert course.accuracies[0] < 0.3
    assert course.accuracy > 0.7
    assert [one.admitted for one in course.records] == [4, 4]
    assert course.records[0].bytes_up < course.records[0].bytes_down / 3


def test_the_same_seed_gives_the_same_figures_and_another_one_others(course: Course) -> None:
    assert play(trial(Fleet(IID, devices=4), seed=1)) == course
    assert play(trial(Fleet(IID, devices=4), seed=2)).accuracies != course.accuracies


def test_rounds_and_seconds_to_an_accuracy_are_those_of_the_first_round_with_it() -> None:
    course = Course((0.1, 0.6, 0.8), (60_000, 120_000), (), made=0.9)

    assert (course.rounds_to(0.5), course.seconds_to(0.8)) == (1, 120.0)
    assert (course.rounds_to(0.9), course.seconds_to(0.9)) == (None, None)
    assert (course.accuracy, course.last_accuracy) == (0.9, 0.8)
    assert Course((0.1, 0.6), (60_000,), ()).accuracy == 0.6
    assert (middle([3, None, 5]), middle([None, 3, None])) == (5, None)


def test_what_comes_of_a_run_is_not_its_last_model() -> None:
    mean: dict[str, Value] = {**WHOLE, "average_last": 1.0}
    found = play(trial(Fleet(IID, devices=4), strategy=mean))
    alone = play(trial(Fleet(IID, devices=4), strategy={**mean, "average_last": 0.0}))

    assert found.accuracies == alone.accuracies
    assert alone.accuracy == alone.last_accuracy == found.last_accuracy
    assert found.accuracy != found.last_accuracy


def test_numpy_under_flowers_own_start_comes_to_the_same() -> None:
    """With one batch of all examples nothing is drawn: only the order of float32 sums differs."""
    whole: dict[str, Value] = {"epochs": 3, "batch_size": 1000}
    one = trial(Fleet(IID, devices=3), training=whole, update={"encoding": "float32"})

    ours, theirs = play(one), reference(one)

    assert len(theirs.accuracies) == 3
    assert theirs.accuracies == pytest.approx(ours.accuracies, abs=0.005)
    assert theirs.accuracy > theirs.accuracies[0] + 0.1


def test_a_proximal_term_holds_numpy_back_too() -> None:
    whole: dict[str, Value] = {"epochs": 5, "proximal": 5.0}
    fleet = Fleet(TWO_SHARDS, devices=3)
    free = trial(fleet, training={"epochs": 5}, update={"encoding": "float32"})
    held = trial(
        fleet,
        training=whole,
        update={"encoding": "float32"},
        strategy={**WHOLE, "name": "FedProx"},
    )

    assert reference(held).accuracies != reference(free).accuracies
    assert reference(held).accuracy == pytest.approx(play(held).accuracy, abs=0.05)


def test_differences_are_told_with_their_standard_error() -> None:
    assert difference_cell([0.5, 0.7], [0.4, 0.4]) == "+0.2000 ± 0.1000"
    assert difference_cell([0.5], [0.6]) == "-0.1000"


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategys_run_file_is_one(name: str) -> None:
    plan = stored_plan(Trial(Fleet(IID), strategy_tables(name), seed=3).file)

    assert (plan.strategy.name, plan.run.seed) == (name, 3)
    assert (plan.training.proximal > 0) is (name == "FedProx")


@pytest.mark.parametrize("name", PARTITIONS)
def test_every_row_lies_on_a_device(name: str) -> None:
    labels = digits().labels

    parts = partition(name, labels, 20, seed=0)

    assert len(parts) == 20
    assert min(map(len, parts)) >= 4
    assert set(np.concatenate(parts).tolist()) == set(range(len(labels)))


def test_two_shards_are_of_few_digits() -> None:
    labels = digits().labels

    found = [len(set(labels[rows].tolist())) for rows in partition(TWO_SHARDS, labels, 20, 0)]

    assert max(found) <= 4


@pytest.mark.parametrize(("attack", "refused"), [(CRUDE, 1), (BACKWARDS, 1), (FALSE_LABELS, 0)])
def test_who_moves_too_far_is_refused_and_who_lies_about_labels_is_not(
    attack: str, refused: int
) -> None:
    fleet = Fleet(IID, devices=6, poisoners=1, attack=attack)

    found = play(trial(fleet, admission={"norm_ratio": 3.0}))

    assert [one.refused for one in found.records] == [refused] * 2
    assert found.accuracy > 0.6


def test_a_poisoner_spoils_a_mean_that_compares_no_norms() -> None:
    found = play(trial(Fleet(IID, devices=6, poisoners=1, attack=CRUDE)))

    assert [one.refused for one in found.records] == [0, 0]
    assert found.accuracy < 0.5


def test_who_drops_out_is_waited_for_until_the_deadline() -> None:
    found = play(trial(Fleet(IID, devices=8, silent=0.5), round={"deadline": 300.0}))

    assert all(0 < one.silent < 8 for one in found.records)
    assert found.seconds >= 600


def test_fedbuff_waits_for_nobody() -> None:
    fleet = Fleet(IID, devices=8, slow=1.0)
    buffered: dict[str, Value] = {"mode": "buffered", "buffer": 4, "concurrency": 8}

    whole = play(trial(fleet, round={"deadline": 7200.0}))
    free = play(trial(fleet, round={**buffered, "deadline": 7200.0}))

    assert [one.admitted for one in free.records] == [4, 4]
    assert free.seconds < whole.seconds


@pytest.mark.parametrize(
    ("part", "tables"),
    [
        (strategies, TABLES),
        (poisoning, ["poisoning"]),
        (dropouts, ["dropouts"]),
        (asynchronous, ["asynchronous"]),
    ],
)
def test_every_part_tells_of_every_case(
    part: object, tables: list[str], course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Trial] = []

    def known(trials: list[Trial], workers: int) -> Iterator[Course]:
        asked.extend(trials)
        return repeat(course, len(trials))

    monkeypatch.setattr(part, "courses", known)
    monkeypatch.setattr(part, "references", known, raising=False)
    make: Callable[[Scale, int], list[Table]] = part.tables  # type: ignore[attr-defined]

    found = make(FEW, 0)

    assert [one.name for one in found] == tables
    assert all(len(row) == len(one.columns) for one in found for row in one.rows)
    assert all(one.rows for one in found)
    assert all(stored_plan(one.file).run.rounds <= 2 * FEW.rounds for one in asked)
    assert set(json.loads(as_json(found))) == set(tables)


def test_memory_is_measured_with_replies_of_as_many_devices_as_said() -> None:
    found = memory.peak("FedAvg", 3)

    assert 0 < found.before <= found.most


@pytest.mark.parametrize("part", PARTS)
def test_every_part_that_can_be_asked_for_is_there(part: str) -> None:
    assert callable(importlib.import_module(f"simulations.study.{part}").tables)


def test_a_part_that_is_not_there_is_refused_by_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["magic"])

    assert "no such part: magic" in capsys.readouterr().err


def test_what_is_printed_is_written_too(
    tmp_path: Path, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropouts, "courses", lambda trials, _: repeat(course, len(trials)))

    assert main(["--quick", "--output", str(tmp_path / "found"), "dropouts"]) == 0

    assert "| never answer |" in (tmp_path / "found.md").read_text()
    assert json.loads((tmp_path / "found.json").read_text())["dropouts"]["rows"]
