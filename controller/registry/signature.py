"""What each tensor means, inferred from the model and its reference: it decides how it is watched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from agent.inference.datatypes import Array
from agent.monitor.reference import MAX_SERIES
from agent.runtimes.runtime import Tensors
from controller.errors import BadModel, InvalidInput
from controller.registry.onnx_file import OnnxFile
from controller.registry.onnx_ports import BATCH, UNKNOWN, Port
from protos.manifest import Semantic, Tensor

MIN_IMAGE_SIDE: Final = 8
CHANNELS: Final = frozenset({1, 3, 4})
MAX_CATEGORIES: Final = 20
"""Integers of so few different values name categories, they don't measure."""

_SUM_TOLERANCE: Final = 1e-3  # of probabilities in half precision
_LABEL_WORDS: Final = ("label", "class", "pred")
_OUTPUT_ONLY: Final = frozenset({Semantic.LABEL, Semantic.PROBABILITY, Semantic.SCORE})


@dataclass(frozen=True, slots=True)
class Signature:
    """A version's inputs and outputs."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def first(self, semantic: Semantic) -> Tensor | None:
        """The first output of that meaning."""
        return next((one for one in self.outputs if one.semantic is semantic), None)

    @property
    def task(self) -> str:
        """What it does: "classification", "regression", or empty where neither can be told."""
        if self.first(Semantic.LABEL) or self.first(Semantic.PROBABILITY):
            return "classification"
        score = self.first(Semantic.SCORE)
        return "regression" if score and _is_column(score.shape) else ""


def provisional_inputs(model: OnnxFile) -> tuple[Tensor, ...]:
    """The inputs as the file alone tells them, to load it with: what they mean is not known yet."""
    return tuple(
        Tensor(name=one.name, dtype=one.dtype, shape=one.shape or (), semantic=Semantic.OPAQUE)
        for one in model.inputs
    )


def infer(
    model: OnnxFile,
    inputs: Tensors,
    outputs: Tensors,
    overrides: Mapping[str, Semantic],
    file: str = "model.onnx",
) -> Signature:
    """The signature that file and reference show; ``overrides`` by tensor name go first.

    Raises:
        BadModel: an output's shape differs from what the file says, or isn't that of rows.
        InvalidInput: an override names no tensor, or does not fit it.
    """
    rows = len(next(iter(inputs.values())))
    ports = [_settled(port, outputs[port.name], rows, file) for port in model.outputs]
    classifier = any(_is_probability(port.name, outputs[port.name]) for port in ports)
    found_inputs = [
        _tensor(port, array, _input_semantic(port, array))
        for port, array in ((port, inputs[port.name]) for port in model.inputs)
    ]
    found_outputs = [
        _tensor(port, array, _output_semantic(port, array, classifier=classifier))
        for port, array in ((port, outputs[port.name]) for port in ports)
    ]
    _check_names(overrides, found_inputs, found_outputs)
    return Signature(
        tuple(_overridden(one, overrides, "input") for one in found_inputs),
        tuple(_overridden(one, overrides, "output") for one in found_outputs),
    )


def parse_overrides(texts: Sequence[str]) -> Mapping[str, Semantic]:
    """``["pixels=image"]`` as people write it on the command line.

    Raises:
        InvalidInput: one is not NAME=MEANING.
    """
    found: dict[str, Semantic] = {}
    for text in texts:
        name, _, meaning = text.rpartition("=")
        try:
            found[name] = Semantic(meaning)
        except ValueError:
            known = ", ".join(one.value for one in Semantic)
            raise InvalidInput(f"{text!r}: not NAME=MEANING, where MEANING is {known}") from None
        if not name:
            raise InvalidInput(f"{text!r}: not NAME=MEANING: no name")
    return found


def _settled(port: Port, array: Array, rows: int, file: str) -> Port:
    """The output with what the file did not tell of its shape."""
    title = f"{file}: output {port.name!r}"
    if array.ndim == 0 or len(array) != rows:
        raise BadModel(f"{title} gave the shape {list(array.shape)} for {rows:,} rows")
    if port.shape is None:
        return Port(port.name, port.dtype, (BATCH, *array.shape[1:]))
    if len(port.shape) != array.ndim or any(
        axis not in {UNKNOWN, length}
        for axis, length in zip(port.shape[1:], array.shape[1:], strict=True)
    ):
        raise BadModel(
            f"{title} gave rows of shape {list(array.shape[1:])}, declared is {list(port.shape)}"
        )
    return Port(port.name, port.dtype, (port.shape[0], *array.shape[1:]))


def _input_semantic(port: Port, array: Array) -> Semantic:
    row = (port.shape or ())[1:]
    if array.dtype.kind in "OU":
        return Semantic.CATEGORICAL if _elements(row) <= MAX_SERIES else Semantic.OPAQUE
    if _is_image(row):
        return Semantic.IMAGE
    if _elements(row) > MAX_SERIES:
        return Semantic.OPAQUE
    if array.dtype.kind == "b" or (array.dtype.kind in "iu" and _has_few_values(array)):
        return Semantic.CATEGORICAL
    return Semantic.NUMERIC


def _output_semantic(port: Port, array: Array, *, classifier: bool) -> Semantic:
    column = _is_column(array.shape)
    if array.dtype.kind in "OU":
        return Semantic.LABEL if column else Semantic.OPAQUE
    if _is_probability(port.name, array):
        return Semantic.PROBABILITY
    if array.dtype.kind in "iub" and column:
        named = any(word in port.name.lower() for word in _LABEL_WORDS)
        return Semantic.LABEL if named or classifier else Semantic.SCORE
    if array.ndim <= 2 and _elements(array.shape[1:]) <= MAX_SERIES:
        return Semantic.SCORE
    return Semantic.OPAQUE


def _is_column(shape: Sequence[int]) -> bool:
    """Whether there is one value for each row."""
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _is_image(row: Sequence[int]) -> bool:
    match tuple(row):
        case (height, width):
            return min(height, width) >= MIN_IMAGE_SIDE
        case (first, middle, last):
            chw = first in CHANNELS and min(middle, last) >= MIN_IMAGE_SIDE
            return chw or (last in CHANNELS and min(first, middle) >= MIN_IMAGE_SIDE)
        case _:
            return False


def _is_probability(name: str, array: Array) -> bool:
    """Whether rows are shares of one; a single value is only where its name says so."""
    if array.dtype.kind != "f" or array.ndim not in {1, 2}:
        return False
    rows = array.reshape(len(array), -1).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not rows.size or rows.min() < -_SUM_TOLERANCE or rows.max() > 1 + _SUM_TOLERANCE:
        return False
    if rows.shape[1] == 1:
        return "prob" in name.lower()
    return bool(np.abs(rows.sum(axis=1) - 1).max() <= _SUM_TOLERANCE)


def _has_few_values(array: Array) -> bool:
    """Whether every element of a row takes few values, each of them often."""
    flat = array.reshape(len(array), -1)
    most = min(MAX_CATEGORIES, len(flat) // 2)
    return all(len(np.unique(flat[:, part])) <= most for part in range(flat.shape[1]))


def _elements(row: Sequence[int]) -> int:
    return int(np.prod(row, dtype=np.int64))


def _tensor(port: Port, array: Array, semantic: Semantic) -> Tensor:
    lowest, highest, nullable = None, None, False
    if array.dtype.kind in "iubf":
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        nullable = array.dtype.kind == "f" and bool(np.isnan(array).any())
        if finite.size:
            lowest, highest = float(finite.min()), float(finite.max())
    return Tensor(
        name=port.name,
        dtype=port.dtype,
        shape=port.shape or (),
        semantic=semantic,
        minimum=lowest,
        maximum=highest,
        nullable=nullable,
    )


def _check_names(
    overrides: Mapping[str, Semantic], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    names = [one.name for one in (*inputs, *outputs)]
    for name in overrides:
        if name not in names:
            raise InvalidInput(f"override {name!r}: no such tensor; there are {', '.join(names)}")


def _overridden(tensor: Tensor, overrides: Mapping[str, Semantic], side: str) -> Tensor:
    wanted = overrides.get(tensor.name)
    if wanted is None or wanted is tensor.semantic:
        return tensor
    title = (
        f"override {tensor.name}={wanted.value}: the {side} is {tensor.dtype} {list(tensor.shape)}"
    )
    if side == "input" and wanted in _OUTPUT_ONLY:
        raise InvalidInput(f"{title}; {wanted.value} is for outputs")
    if wanted is Semantic.IMAGE and len(tensor.shape) not in {3, 4}:
        raise InvalidInput(f"{title}; an image has two axes, or three with its channels")
    if wanted is Semantic.PROBABILITY and not tensor.dtype.startswith("FP"):
        raise InvalidInput(f"{title}; probabilities are floating point numbers")
    if wanted is Semantic.LABEL and not _is_column(tensor.shape):
        raise InvalidInput(f"{title}; a label is one value a row")
    numbers = {Semantic.NUMERIC, Semantic.IMAGE, Semantic.SCORE}
    if wanted in numbers and tensor.dtype == "BYTES":
        raise InvalidInput(f"{title}; {wanted.value} needs numbers")
    return msgspec.structs.replace(tensor, semantic=wanted)
