"""How a version shall be trained on devices: what a person asks for, and what is left to infer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from agent.runtimes.runtime import Runtime, Tensors
from controller.errors import InvalidInput
from controller.registry.class_labels import class_labels
from controller.registry.signature import Signature
from controller.train_step.build import TrainStep, build_train_step
from controller.train_step.check import check_canonical, check_train_step
from controller.train_step.options import TrainOptions
from controller.train_step.selection import LastLayers, Trainable
from protos.manifest import Semantic, Tensor
from protos.train_step import Loss, Optimizer

CLIP_NORM: Final = 10.0
"""Far above what healthy training has; one bad row can't throw the parameters away."""

TRIED_ROWS: Final = 64

_OF_CLASSES: Final = frozenset({Loss.SOFTMAX_CROSS_ENTROPY, Loss.NLL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a person asks for.

    Attributes:
        trainable: ``all``, ``head``, ``last:K`` or names and patterns of initializers, with commas.
        loss: what is minimised; None is inferred of the signature.
        optimizer: how a gradient becomes a step.
        proximal: whether parameters can be held to the global ones (FedProx).
        output: the tensor that the loss takes; empty is inferred of the signature.
        weight_decay: from 0.
        clip_norm: bound of the gradient's norm; None is none.
    """

    trainable: str
    loss: Loss | None = None
    optimizer: Optimizer = Optimizer.SGD
    proximal: bool = False
    output: str = ""
    weight_decay: float = 0.0
    clip_norm: float | None = CLIP_NORM


def parse_trainable(text: str) -> Trainable:
    """``all``, ``head``, ``last:2`` or ``encoder.*,head.weight`` as what is selected.

    Raises:
        InvalidInput: it is none of these.
    """
    match text.partition(":"):
        case "all", "", "":
            return "all"
        case "head", "", "":
            return "head"
        case "last", ":", count if count.isascii() and count.isdecimal() and 0 < int(count) < 1000:
            return LastLayers(int(count))
    patterns = tuple(one.strip() for one in text.split(","))
    if text.startswith("last:") or not all(patterns):
        raise InvalidInput(
            f"trainable {text[:80]!r}: all, head, last:K, or names of initializers with commas"
        )
    return patterns


def check(training: Training) -> None:
    """Passes if what is asked for is possible.

    Raises:
        InvalidInput: it is not; names the field.
    """
    parse_trainable(training.trainable)
    if not 0 <= training.weight_decay < 1:
        raise InvalidInput(f"weight decay {training.weight_decay!r}: from 0 and below 1")
    if training.clip_norm is not None and not 0 < training.clip_norm < 1e9:
        raise InvalidInput(f"clip norm {training.clip_norm!r}: above 0")


@dataclass(frozen=True, slots=True)
class Shown:
    """A canonical model, and what it gave for the reference.

    ``original`` is the file that it was made of.
    """

    original: bytes
    model: bytes
    signature: Signature
    inputs: Tensors
    outputs: Tensors


def train_step(
    training: Training, shown: Shown, runtime: Runtime, rng: np.random.Generator
) -> TrainStep:
    """The train step of a canonical model, after both were tried on a few rows.

    Raises:
        NotTrainable: there is none, or it fails its trial; names the operator.
        InvalidInput: the loss can't be inferred.
    """
    options = options_of(training, shown.signature)
    if options.loss in _OF_CLASSES:
        labels = class_labels(shown.model, options.output, shown.signature, shown.outputs)
        options = replace(options, classes=labels)
    step = build_train_step(shown.model, options, runtime)
    few = {name: array[:TRIED_ROWS] for name, array in shown.inputs.items()}
    check_canonical(shown.original, shown.model, rng, runtime, few)
    check_train_step(shown.model, step, rng, runtime, few)
    return step


def options_of(training: Training, signature: Signature) -> TrainOptions:
    """What is asked for, with what it leaves open filled in.

    Raises:
        InvalidInput: the loss can't be inferred.
    """
    loss, output = training.loss, training.output
    if not loss:
        guess = next(_guesses(signature), None)
        if guess is None:
            raise InvalidInput(
                "trainable: the outputs do not tell what is to be minimised; name the loss",
                "Name it with `--loss`; `muster model register --help` lists losses.",
            )
        loss = guess[0]
    if not output:
        output = next((name for known, name in _guesses(signature) if known is loss), "")
    return TrainOptions(
        loss=loss,
        trainable=parse_trainable(training.trainable),
        optimizer=training.optimizer,
        proximal=training.proximal,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        output=output or _first_score(signature),
    )


def _guesses(signature: Signature) -> Iterator[tuple[Loss, str]]:
    """Losses that fit the outputs, the likeliest first, each with the output that it is for."""
    probability, score = signature.first(Semantic.PROBABILITY), signature.first(Semantic.SCORE)
    classified = signature.first(Semantic.LABEL) is not None
    if probability is not None:
        several = _width(probability) > 1
        yield (Loss.SOFTMAX_CROSS_ENTROPY if several else Loss.BCE_WITH_LOGITS), probability.name
    if score is not None and classified:
        several = _width(score) > 1
        yield (Loss.SOFTMAX_CROSS_ENTROPY if several else Loss.BCE_WITH_LOGITS), score.name
    if score is not None and not classified:
        rebuilt = signature.inputs[0].shape == score.shape and _width(score) > 1
        yield (Loss.RECONSTRUCTION if rebuilt else Loss.MSE), score.name


def _first_score(signature: Signature) -> str:
    for semantic in (Semantic.PROBABILITY, Semantic.SCORE):
        found = signature.first(semantic)
        if found is not None:
            return found.name
    return ""


def _width(tensor: Tensor) -> int:
    width = 1
    for axis in tensor.shape[1:]:
        width *= axis
    return width
