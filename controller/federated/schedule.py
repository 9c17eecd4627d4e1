"""What a run does next: to train a round, to evaluate, or nothing more."""

from dataclasses import dataclass, replace
from enum import StrEnum

from controller.federated.plan import EvaluationTable


class Work(StrEnum):
    """What is next."""

    EVALUATE = "evaluate"
    TRAIN = "train"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is.

    Attributes:
        step: the last phase that is closed.
        round: the last round that is done.
        evaluated: the round whose parameters were evaluated last; -1 if none were.
        attempts: how often the next round was tried in vain.
    """

    step: int = 0
    round: int = 0
    evaluated: int = -1
    attempts: int = 0


def next_work(place: Place, rounds: int, evaluation: EvaluationTable) -> Work:
    """What is to be done from there."""
    if place.evaluated < place.round and _is_due(place.round, rounds, evaluation):
        return Work.EVALUATE
    return Work.TRAIN if place.round < rounds else Work.NOTHING


def _is_due(round_: int, rounds: int, evaluation: EvaluationTable) -> bool:
    if round_ == 0:
        return evaluation.before
    if round_ == rounds:
        return evaluation.after
    return evaluation.every > 0 and round_ % evaluation.every == 0


def trained(place: Place) -> Place:
    """A round is done."""
    return replace(place, step=place.step + 1, round=place.round + 1, attempts=0)


def failed(place: Place) -> Place:
    """A round was tried in vain."""
    return replace(place, step=place.step + 1, attempts=place.attempts + 1)


def evaluated(place: Place) -> Place:
    """The parameters were evaluated, or nobody could."""
    return replace(place, step=place.step + 1, evaluated=place.round)
