"""Whether tensors are the ones that a version takes. Nothing is cast, padded or reordered.

Values are not judged here: a NaN, a value out of the reference's range or a null where none belongs
is counted by the monitor, and answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.errors import InvalidRequest
from agent.inference.datatypes import DATATYPES, datatype_of
from agent.runtimes.runtime import Tensors
from protos.manifest import Manifest, Tensor

VARIABLE = -1
"""An axis of any length: the batch axis, when it is the first."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one input must be.

    Attributes:
        dtype: numpy's for ``datatype``; None if the protocol has no such datatype.
        fixed: (axis, length) for every axis but the variable ones.
        batched: whether the first axis is variable.
        tail: the axes behind the first, if that is the only variable one; else None.
    """

    datatype: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    fixed: tuple[tuple[int, int], ...]
    batched: bool
    tail: tuple[int, ...] | None

    def __str__(self) -> str:
        return f"{self.datatype} {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """A version's inputs by name, and the names of its outputs, in the manifest's order."""

    inputs: Mapping[str, Expected]
    outputs: tuple[str, ...]


def signature_of(manifest: Manifest) -> Signature:
    """The signature that the manifest states."""
    return Signature(
        inputs={tensor.name: _expected(tensor) for tensor in manifest.inputs},
        outputs=tuple(tensor.name for tensor in manifest.outputs),
    )


def _expected(tensor: Tensor) -> Expected:
    batched = tensor.shape[:1] == (VARIABLE,)
    tail = tensor.shape[1:]
    known = DATATYPES.get(tensor.dtype)
    return Expected(
        datatype=tensor.dtype,
        shape=tensor.shape,
        dtype=None if known is None else known.numpy,
        fixed=tuple((i, length) for i, length in enumerate(tensor.shape) if length != VARIABLE),
        batched=batched,
        tail=tail if batched and VARIABLE not in tail else None,
    )


def check_inputs(signature: Signature, tensors: Tensors) -> None:
    """Passes if ``tensors`` are just the inputs, each of its datatype and shape, of one batch size.

    Raises:
        InvalidRequest: they are not; says everything that is wrong, naming each input.
    """
    if not _plainly_fits(signature, tensors):
        objections = _objections(signature, tensors)
        if objections:
            raise InvalidRequest("; ".join(objections))


def _plainly_fits(signature: Signature, tensors: Tensors) -> bool:
    """Whether every input is one batch of rows that fits: most requests, told in a microsecond."""
    if len(tensors) != len(signature.inputs):
        return False
    rows = 0
    for name, expected in signature.inputs.items():
        array = tensors.get(name)
        if array is None or array.dtype != expected.dtype:
            return False
        shape = array.shape
        if not shape or shape[1:] != expected.tail or rows not in {0, shape[0]}:
            return False
        rows = shape[0]
    return rows > 0


def outputs_of(signature: Signature, requested: Sequence[str]) -> Sequence[str]:
    """The outputs to compute: those requested, all of them if none is.

    Raises:
        InvalidRequest: an output is unknown, or asked for twice; names it.
    """
    if not requested:
        return signature.outputs
    for name in requested:
        if name not in signature.outputs:
            raise InvalidRequest(
                f"output {name!r}: no such output; there are {', '.join(signature.outputs)}"
            )
    if len(set(requested)) != len(requested):
        raise InvalidRequest(f"output {_twice(requested)!r}: asked for twice")
    return requested


def _twice(names: Sequence[str]) -> str:
    return next(name for i, name in enumerate(names) if name in names[:i])


def _fits(expected: Expected, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return (
        len(shape) == len(expected.shape)
        and all(shape[axis] == length for axis, length in expected.fixed)
        and 0 not in shape
        and datatype_of(dtype) == expected.datatype
    )


def _objections(signature: Signature, tensors: Tensors) -> list[str]:
    takes = ", ".join(f"{name} ({expected})" for name, expected in signature.inputs.items())
    found = [
        f"input {name!r}: no such input; the model takes {takes}"
        for name in tensors
        if name not in signature.inputs
    ]
    batches = {}
    for name, expected in signature.inputs.items():
        array = tensors.get(name)
        if array is None:
            found.append(f"input {name!r}: missing; it is {expected}")
            continue
        if not _fits(expected, array.dtype, array.shape):
            given = f"{datatype_of(array.dtype) or array.dtype} {list(array.shape)}"
            empty = " (no rows)" if 0 in array.shape else ""
            found.append(f"input {name!r}: {given}{empty} given; it is {expected}")
        elif expected.batched:
            batches[name] = array.shape[0]
    if len(set(batches.values())) > 1:
        sizes = ", ".join(f"{name} {size}" for name, size in batches.items())
        found.append(f"inputs differ in their number of rows: {sizes}")
    return found
