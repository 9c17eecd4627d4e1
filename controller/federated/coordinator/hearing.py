"""What the evaluations of several devices come to, so that a few that lie do not decide it.

Nobody can look up what a device says of the examples that it holds out. So none counts for more than
twice as many as the middle one; and what a few say of losses, errors and of how much was right counts for no more
than what the next one says: a winsorised mean (Tukey 1962). One of three devices, or a fifth of many,
then moves it no farther than the honest ones are apart. Of two, nobody knows which one to believe.

Which class was taken for which is as each tells it, so that a class that only few see is not lost: what
is made of that, such as macro F1, a few can move, and no candidate is compared by it.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from statistics import median_low
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.federated.evaluation import Evaluation

FEWEST: Final = 3
"""From so many devices on, one can be out of the way."""

SHARE: Final = 0.2
"""Of the devices: so many at each end are not taken at their word."""

TIMES: Final = 2
"""As many examples as the middle device has, so many times, count of one device."""

_SUMS: Final = (
    "loss_sum",
    "absolute_error_sum",
    "squared_error_sum",
    "truth_sum",
    "truth_squared_sum",
)
Floats = NDArray[np.float64]


def heard(several: Sequence[Evaluation], most: int) -> Evaluation:
    """All of them together; none counts for more than ``most`` examples.

    They are laid out alike, as ``admission.odd_evaluations`` sees to. What comes of it adds up as what
    one device tells.
    """
    told = [one for one in several if one.examples]
    if not told:
        return Evaluation()
    examples = np.array([one.examples for one in told], np.float64)
    weights = np.minimum(examples, min(most, TIMES * median_low(one.examples for one in told)))
    sums: dict[str, Any] = {
        name: float(weights @ _winsorised(_each(told, name) / examples)) for name in _SUMS
    }
    right = weights * _winsorised(_each(told, "correct") / examples)
    wrong = weights * (_each(told, "judged") / examples) - right
    judged = round(float(right.sum() + wrong.sum()))
    correct = min(judged, round(float(right.sum())))
    if not any(one.correct < one.judged for one in told):
        correct = judged
    plain = Evaluation(int(weights.sum()), judged=judged, correct=correct)
    return replace(plain, **sums, **_counts(told, plain, right, wrong))


def _each(told: Sequence[Evaluation], name: str) -> Floats:
    return np.array([getattr(one, name) for one in told], np.float64)


def _winsorised(means: Floats) -> Floats:
    """The same, where none is farther out than others are, too."""
    out = max(1, int(SHARE * len(means))) if len(means) >= FEWEST else 0
    order = np.sort(means)
    return np.clip(means, order[out], order[-1 - out])


def _counts(
    told: Sequence[Evaluation], plain: Evaluation, right: Floats, wrong: Floats
) -> dict[str, Any]:
    """What was right, and what was not: of each device as much as is believed, as it lies there."""
    confusion, sure, hits = (
        _each(told, name) for name in ("confusion", "confidences", "confident_correct")
    )
    correct, judged = _each(told, "correct"), _each(told, "judged")
    of_right = right / np.maximum(correct, 1) * (correct > 0)
    of_wrong = np.maximum(wrong, 0) / np.maximum(judged - correct, 1) * (judged > correct)
    diagonal = np.zeros(confusion.shape[1], np.bool_)
    diagonal[:: isqrt(confusion.shape[1]) + 1] = True
    missed = plain.judged - plain.correct
    agreed = _apportioned(np.where(diagonal, of_right @ confusion, 0), plain.correct)
    confused = _apportioned(np.where(diagonal, 0, of_wrong @ confusion), missed)
    sure_right = _apportioned(of_right @ hits, plain.correct)
    sure_wrong = _apportioned(of_wrong @ (sure - hits), missed)
    return {
        "confusion": tuple((agreed + confused).tolist()),
        "confidences": tuple((sure_right + sure_wrong).tolist()),
        "confident_correct": tuple(sure_right.tolist()),
    }


def _apportioned(counts: Floats, total: int) -> NDArray[np.int64]:
    """So many in the shares of ``counts``, largest remainders first (Hamilton's method)."""
    exact = counts * (total / max(float(counts.sum()), 1e-9))
    whole = np.floor(exact).astype(np.int64)
    more: Any = np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]
    whole[more] += 1
    return whole
