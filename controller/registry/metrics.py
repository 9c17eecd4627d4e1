"""How right a version is on its reference, where the truth is known."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from agent.inference.datatypes import Array
from agent.runtimes.runtime import Tensors
from controller.errors import BadReference
from controller.registry.signature import Signature
from protos.manifest import Semantic

ACCURACY: Final = "accuracy"
MACRO_F1: Final = "macro_f1"
MAE: Final = "mae"
RMSE: Final = "rmse"
METRICS: Final = (ACCURACY, MACRO_F1, MAE, RMSE)
LOSS: Final = "loss"
"""What training minimises: known of candidates of runs alone."""
LOWER_IS_BETTER: Final = frozenset({MAE, RMSE, LOSS})


def metrics(signature: Signature, outputs: Tensors, truth: Array) -> Mapping[str, float]:
    """Accuracy and macro F1 of a classifier, MAE and RMSE of a regression; none of anything else.

    Raises:
        BadReference: the truth is of a kind that the outputs can't be compared with.
    """
    predicted = predictions(signature, outputs)
    if predicted is not None:
        _check_kinds(predicted, truth)
        return {ACCURACY: accuracy(truth, predicted), MACRO_F1: macro_f1(truth, predicted)}
    score = signature.first(Semantic.SCORE)
    if signature.task != "regression" or score is None:
        return {}
    if truth.dtype.hasobject:
        raise BadReference(f"the truth is text, the output {score.name!r} gives numbers")
    given = outputs[score.name].reshape(-1).astype(np.float64)
    difference = given - truth.astype(np.float64)
    return {
        MAE: float(np.abs(difference).mean()),
        RMSE: float(np.sqrt(np.square(difference).mean())),
    }


def predictions(signature: Signature, outputs: Tensors) -> Array | None:
    """The class of each row: the label, or the number of the highest probability; None if neither."""
    label = signature.first(Semantic.LABEL)
    if label is not None:
        return outputs[label.name].reshape(-1)
    probability = signature.first(Semantic.PROBABILITY)
    if probability is None:
        return None
    rows = outputs[probability.name].reshape(len(outputs[probability.name]), -1)
    return (rows[:, 0] >= 0.5).astype(np.int64) if rows.shape[1] == 1 else rows.argmax(axis=1)


def accuracy(truth: Array, predicted: Array) -> float:
    """Share of rows whose class is right."""
    return float(np.mean(truth == predicted))


def macro_f1(truth: Array, predicted: Array) -> float:
    """Mean over the classes that occur in either of 2 TP / (2 TP + FP + FN)."""
    scores = []
    for one in {*truth.tolist(), *predicted.tolist()}:
        is_so, said_so = truth == one, predicted == one
        both = int(np.count_nonzero(is_so & said_so))
        scores.append(2 * both / int(np.count_nonzero(is_so) + np.count_nonzero(said_so)))
    return float(np.mean(scores))


def _check_kinds(predicted: Array, truth: Array) -> None:
    if predicted.dtype.hasobject != truth.dtype.hasobject:
        kinds = "text", "numbers"
        given, wanted = kinds if truth.dtype.hasobject else kinds[::-1]
        raise BadReference(f"the truth is {given}, the model's labels are {wanted}")
    if truth.dtype.kind == "f" and not bool(np.all(truth == np.floor(truth))):
        raise BadReference("the truth has fractions or NaN, the model's labels are whole numbers")
