"""What a train step is to do."""

from dataclasses import dataclass

from controller.train_step.selection import Trainable
from protos.train_step import Loss, Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a model is trained on devices.

    Attributes:
        loss: what is minimised.
        trainable: which parameters move.
        optimizer: how a gradient becomes a step.
        proximal: whether parameters can be held to the global ones (FedProx).
        weight_decay: from 0.
        clip_norm: bound of the gradient's norm over all parameters, above 0; None is none.
        sample_weight: whether rows have weights: those of padding 0, those of rare classes more.
        output: the tensor that the loss takes; empty is the model's first of float32. Where the loss
            takes logits and that is a Softmax or Sigmoid, it is what goes into it.
        classes: the model's labels in the order of the output's columns, as the spec has them.
        huber_delta: where Huber's loss turns from a square to a line, above 0.
    """

    loss: Loss = Loss.SOFTMAX_CROSS_ENTROPY
    trainable: Trainable = "all"
    optimizer: Optimizer = Optimizer.SGD
    proximal: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None
    sample_weight: bool = True
    output: str = ""
    classes: tuple[int | str, ...] = ()
    huber_delta: float = 1.0
