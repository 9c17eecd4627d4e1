"""Losses: their value and, in closed form, their gradient by the output."""

from dataclasses import dataclass
from typing import Final

from controller.train_step.emitter import FLOAT, Emitter
from protos.train_step import Loss

CLASSES: Final = frozenset({Loss.SOFTMAX_CROSS_ENTROPY, Loss.NLL})
"""Whose target is the number of a class for each row."""

SMALLEST_WEIGHT: Final = 1e-12  # a batch of nothing but padding has the loss 0


@dataclass(frozen=True, slots=True)
class LossValues:
    """Names of values: the loss, a scalar, and its gradient by the output."""

    loss: str
    gradient: str


def append_loss(
    e: Emitter, loss: Loss, output: str, target: str, weight: str, huber_delta: float
) -> LossValues:
    """The loss of a batch: the mean over rows, weighted by ``weight`` [B] unless that is empty.

    The loss of a row of several elements is their mean. Rows of weight 0 pad a short batch.
    """
    if loss in CLASSES:
        return _of_classes(e, loss, output, target, weight)
    value, gradient = _of_elements(e, loss, output, target, huber_delta)
    return _mean(e, output, value, gradient, weight)


def _of_classes(e: Emitter, loss: Loss, output: str, target: str, weight: str) -> LossValues:
    softmax = loss is Loss.SOFTMAX_CROSS_ENTROPY
    logarithm = e.op("LogSoftmax", output, axis=-1) if softmax else output
    classes = e.op("Shape", output, start=1)
    one_hot = e.op("OneHot", target, classes, e.number([0.0, 1.0]))
    if weight:
        share = e.op("Unsqueeze", _shares(e, weight), e.integers([1]))
    else:
        share = e.op("Reciprocal", e.op("Cast", e.op("Shape", output, end=1), to=FLOAT))
    hit = e.op("Mul", one_hot, share)
    value = e.op("Neg", e.op("ReduceSum", e.op("Mul", hit, logarithm), keepdims=0))
    if not softmax:
        return LossValues(value, e.op("Neg", hit))
    expected = e.op("Mul", e.op("Exp", logarithm), share)
    return LossValues(value, e.op("Sub", expected, hit))


def _of_elements(
    e: Emitter, loss: Loss, output: str, target: str, huber_delta: float
) -> tuple[str, str]:
    """The loss of each element, and its slope."""
    if loss is Loss.BCE_WITH_LOGITS:  # max(z, 0) - z y + log(1 + exp(-|z|)): no overflow
        falling = e.op("Exp", e.op("Neg", e.op("Abs", output)))
        tail = e.op("Log", e.op("Add", e.number(1.0), falling))
        head = e.op("Sub", e.op("Relu", output), e.op("Mul", output, target))
        return e.op("Add", head, tail), e.op("Sub", e.op("Sigmoid", output), target)
    error = e.op("Sub", output, target)
    match loss:
        case Loss.MAE:
            return e.op("Abs", error), e.op("Sign", error)
        case Loss.HUBER:
            slope = e.op("Clip", error, e.number(-huber_delta), e.number(huber_delta))
            half = e.op("Mul", e.number(0.5), slope)
            return e.op("Mul", slope, e.op("Sub", error, half)), slope
        case _:  # MSE, RECONSTRUCTION
            return e.op("Mul", error, error), e.op("Mul", e.number(2.0), error)


def _mean(e: Emitter, output: str, value: str, gradient: str, weight: str) -> LossValues:
    if not weight:
        count = e.op("Cast", e.op("Size", output), to=FLOAT)
        return LossValues(e.op("ReduceMean", value, keepdims=0), e.op("Div", gradient, count))
    rows = e.op("Flatten", value, axis=1)
    share = _shares(e, weight)
    second = e.integers([1])
    mean = e.op("ReduceMean", rows, second, keepdims=0)
    loss = e.op("ReduceSum", e.op("Mul", share, mean), keepdims=0)
    width = e.op("Cast", e.op("Shape", rows, start=1), to=FLOAT)
    factor = e.op("Div", e.op("Unsqueeze", share, second), width)
    weighted = e.op("Mul", e.op("Flatten", gradient, axis=1), factor)
    return LossValues(loss, e.op("Reshape", weighted, e.op("Shape", output)))


def _shares(e: Emitter, weight: str) -> str:
    """Of each row in the mean, [B]."""
    whole = e.op("ReduceSum", weight, keepdims=1)
    return e.op("Div", weight, e.op("Max", whole, e.number(SMALLEST_WEIGHT)))
