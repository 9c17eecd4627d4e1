"""How good a model is on a device's examples, as counts and sums, from which no row can be read.

Merging is addition, so it does not matter in which order devices are heard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protos.errors import DocumentError
from protos.train_step import Loss

BINS: Final = 10
"""Of confidence, from 0 to 1: for a reliability diagram."""

MOST_CLASSES: Final = 64
"""With more, there is no confusion matrix: it would outweigh the model."""

FARTHEST: Final = 7e38
"""No two float32 are farther apart; no loss of a batch, which is one, is larger."""

Metrics = Mapping[str, int | float | list[int] | list[float]]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Sums over examples; the one of none changes nothing when merged.

    Attributes:
        examples: rows.
        loss_sum: of the loss, over rows.
        judged: what can be right or wrong: rows for classes, elements for yes-or-no outputs; of
            numbers, elements. The sums below are over these.
        correct: of them, how many were right; 0 for numbers.
        confusion: [truth, predicted], row-major; empty for numbers and beyond ``MOST_CLASSES``.
        confidences: by bin of the highest probability, how many; empty for numbers.
        confident_correct: of these, how many were right.
        absolute_error_sum, squared_error_sum: for numbers.
        truth_sum, truth_squared_sum: for numbers: with the errors they give R².
    """

    examples: int = 0
    loss_sum: float = 0.0
    judged: int = 0
    correct: int = 0
    confusion: tuple[int, ...] = ()
    confidences: tuple[int, ...] = ()
    confident_correct: tuple[int, ...] = ()
    absolute_error_sum: float = 0.0
    squared_error_sum: float = 0.0
    truth_sum: float = 0.0
    truth_squared_sum: float = 0.0

    @property
    def loss(self) -> float | None:
        """The mean loss; None without examples."""
        return self.loss_sum / self.examples if self.examples else None

    @property
    def accuracy(self) -> float | None:
        """The share that was right; None for numbers, and without examples."""
        return self.correct / self.judged if self.judged and self.confidences else None

    def merge(self, other: "Evaluation") -> "Evaluation":
        """Both together.

        Raises:
            ValueError: they are of models with different classes.
        """
        if self == Evaluation():
            return other
        if other == Evaluation():
            return self
        return Evaluation(
            **{
                one.name: _sum(getattr(self, one.name), getattr(other, one.name))
                for one in fields(self)
            }
        )

    def metrics(self) -> Metrics:
        """As a Flower ``MetricRecord`` takes it: the same keys and lengths from every device."""
        return {
            one.name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
            for one in fields(self)
            if (value := getattr(self, one.name)) != ()
        }


def _sum(one: Any, other: Any) -> Any:
    if not isinstance(one, tuple):
        return one + other
    return tuple(a + b for a, b in zip(one, other, strict=True))


def read_evaluation(metrics: Mapping[str, object]) -> Evaluation:
    """The evaluation that a device told; keys that are not of it are left alone.

    Raises:
        DocumentError: a count is missing, negative, not finite, or does not add up; names it.
    """
    found: dict[str, Any] = {}
    for one in fields(Evaluation):
        name = one.name.replace("_", "-")
        value = metrics.get(name)
        if isinstance(one.default, tuple):
            found[one.name] = _counts(name, value)
        elif isinstance(one.default, int):
            found[one.name] = _count(name, value)
        else:
            found[one.name] = _finite(name, value)
    evaluation = Evaluation(**found)
    if reason := _discord(evaluation) or _beyond(evaluation):
        raise DocumentError("malformed", f"evaluation: {reason}")
    return evaluation


def _counts(name: str, value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or len(value) > MOST_CLASSES**2:
        raise DocumentError("malformed", f"evaluation: {name} is no list of counts")
    return tuple(_count(name, one) for one in value)


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise DocumentError("malformed", f"evaluation: {name} is no count")
    return value


def _finite(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DocumentError("malformed", f"evaluation: {name} is no finite number")
    return float(value)


def _discord(one: Evaluation) -> str:
    """Which counts contradict each other; empty if none do."""
    if one.correct > one.judged:
        return "more were right than were judged"
    if one.confusion:
        classes = round(len(one.confusion) ** 0.5)
        if classes * classes != len(one.confusion):
            return "confusion is not square"
        if sum(one.confusion) != one.judged or sum(one.confusion[:: classes + 1]) != one.correct:
            return "confusion does not add up to what was judged and right"
    if one.confidences or one.confident_correct:
        if len(one.confidences) != BINS or len(one.confident_correct) != BINS:
            return f"confidences are not of {BINS} bins"
        if sum(one.confidences) != one.judged or sum(one.confident_correct) != one.correct:
            return "confidences do not add up to what was judged and right"
    return ""


def _beyond(one: Evaluation) -> str:
    """Which sum is beyond what so many float32 can come to; empty if none is."""
    if min(one.absolute_error_sum, one.squared_error_sum, one.truth_squared_sum) < 0:
        return "a sum of squares, or of distances, is negative"
    sums = (
        (one.loss_sum, FARTHEST * one.examples),
        (one.absolute_error_sum, FARTHEST * one.judged),
        (one.truth_sum, FARTHEST * one.judged),
        (one.squared_error_sum, FARTHEST**2 * one.judged),
        (one.truth_squared_sum, FARTHEST**2 * one.judged),
    )
    if any(abs(value) > most for value, most in sums):
        return "a sum is larger than its numbers can be"  # and could not be added up
    return ""


# --- Counting -------------------------------------------------------------------------------------


def nothing(loss: Loss, classes: int) -> Evaluation:
    """The counts of no example, with as many of each as others have."""
    if loss is Loss.BCE_WITH_LOGITS:
        classes = 2
    elif loss not in {Loss.SOFTMAX_CROSS_ENTROPY, Loss.NLL}:
        return Evaluation()
    cells = classes * classes if classes <= MOST_CLASSES else 0
    return Evaluation(
        confusion=(0,) * cells, confidences=(0,) * BINS, confident_correct=(0,) * BINS
    )


def evaluated(loss: Loss, mean: float, output: Array, truth: Array | None) -> Evaluation:
    """The counts of one batch.

    Args:
        loss: what the training step minimises.
        mean: that, over the batch.
        output: the step's, before it: logits where the loss takes them. [rows, …].
        truth: as ``protos.train_step`` has the target; None where the model is its own target.
    """
    rows = len(output)
    sums = Evaluation(examples=rows, loss_sum=mean * rows)
    match loss:
        case Loss.SOFTMAX_CROSS_ENTROPY | Loss.NLL if truth is not None:
            return _of_classes(sums, np.asarray(output, np.float64), truth)
        case Loss.BCE_WITH_LOGITS if truth is not None:
            return _of_yes_or_no(sums, np.asarray(output, np.float64), truth)
        case _ if truth is not None:
            return _of_numbers(sums, np.asarray(output, np.float64), np.asarray(truth, np.float64))
    return replace(sums, judged=rows)


def _of_classes(sums: Evaluation, logits: Array, truth: Array) -> Evaluation:
    """Softmax of log-probabilities is the probabilities: one way for both losses."""
    classes = logits.shape[-1]
    predicted = logits.argmax(axis=-1)
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    confidence = 1.0 / probabilities.sum(axis=-1)
    return _judged(sums, predicted.ravel(), np.ravel(truth), confidence.ravel(), classes)


def _of_yes_or_no(sums: Evaluation, logits: Array, truth: Array) -> Evaluation:
    predicted = (logits > 0).astype(np.int64).ravel()
    confidence = 1.0 / (1.0 + np.exp(-np.abs(logits)))
    return _judged(sums, predicted, (np.ravel(truth) > 0.5).astype(np.int64), confidence.ravel(), 2)


def _judged(
    sums: Evaluation, predicted: Array, truth: Array, confidence: Array, classes: int
) -> Evaluation:
    right = predicted == truth
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    confusion: tuple[int, ...] = ()
    if classes <= MOST_CLASSES:
        cells = np.bincount(truth * classes + predicted, minlength=classes * classes)
        confusion = tuple(cells.tolist())
    return replace(
        sums,
        judged=len(truth),
        correct=int(right.sum()),
        confusion=confusion,
        confidences=tuple(np.bincount(bins, minlength=BINS).tolist()),
        confident_correct=tuple(np.bincount(bins[right], minlength=BINS).tolist()),
    )


def _of_numbers(sums: Evaluation, output: Array, truth: Array) -> Evaluation:
    error = output.ravel() - truth.ravel()
    return replace(
        sums,
        judged=error.size,
        absolute_error_sum=float(np.abs(error).sum()),
        squared_error_sum=float(np.square(error).sum()),
        truth_sum=float(truth.sum()),
        truth_squared_sum=float(np.square(truth).sum()),
    )
