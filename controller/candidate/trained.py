"""What a federated run has brought: parameters, and how good they are on what devices held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.federated.evaluation import Evaluation
from controller.registry.metrics import ACCURACY, MACRO_F1, MAE, RMSE

Float32s = NDArray[np.float32]

NOBODY: Final = Evaluation()
"""No device has told anything."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A run at its end.

    Attributes:
        run: its id.
        round: the last that is in the parameters.
        parameters: by name, as the parent's train step has them.
        devices: whose updates are in them.
        evaluated: devices that told how good the parameters are.
        before: the parent's, on what these devices held out; empty if nobody told.
        after: the parameters', on the same: after ``grid.rounded``, so that it is of what is shipped.
    """

    run: str
    round: int
    parameters: Mapping[str, Float32s]
    devices: int
    evaluated: int = 0
    before: Evaluation = NOBODY
    after: Evaluation = NOBODY


def metrics_of(evaluation: Evaluation) -> Mapping[str, float]:
    """The metrics of a registration, as far as the counts tell them; none without examples."""
    judged = evaluation.judged
    if not judged:
        return {}
    found: dict[str, float] = {}
    accuracy = evaluation.accuracy
    if accuracy is not None:
        found[ACCURACY] = accuracy
        if evaluation.confusion:
            found[MACRO_F1] = _macro_f1(confusion(evaluation))
    elif evaluation.squared_error_sum or evaluation.truth_squared_sum:
        found[MAE] = evaluation.absolute_error_sum / judged
        found[RMSE] = float(np.sqrt(evaluation.squared_error_sum / judged))
    return found


def confusion(evaluation: Evaluation) -> NDArray[np.int64]:
    """Counts [truth, predicted]; empty where there are none."""
    classes = round(len(evaluation.confusion) ** 0.5)
    return np.array(evaluation.confusion, np.int64).reshape(classes, classes)


def _macro_f1(cells: NDArray[np.int64]) -> float:
    """As ``controller.registry.metrics.macro_f1``: over classes that occur in either."""
    both, truth, said = np.diag(cells), cells.sum(axis=1), cells.sum(axis=0)
    occurs = truth + said > 0
    return float(np.mean(2 * both[occurs] / (truth + said)[occurs]))
