"""How one example is written as bytes: its inputs and its truth, each as a raw little-endian array.

Rows of one layout stand behind one another as one packed array, which numpy reads without a copy.
Nothing is pickled, and no length stands in the bytes: a row has ``Layout.row_bytes``, or is refused.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.errors import InvalidRequest
from agent.federated.errors import NotCollecting, TruthUnfit
from agent.inference.datatypes import DATATYPES
from agent.runtimes.runtime import Tensors
from protos.manifest import Manifest
from protos.train_step import Loss, TrainStepSpec

TRUTH: Final = "train/truth"
VARIABLE: Final = -1
MOST_TOLD: Final = 20
CLASSES: Final = frozenset({Loss.SOFTMAX_CROSS_ENTROPY, Loss.NLL})
"""Losses whose target is a class's index."""

Array = NDArray[Any]


class Field(msgspec.Struct, frozen=True):
    """One tensor of one example. ``shape`` has no batch axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of one row."""
        return DATATYPES[self.datatype].numpy.itemsize * math.prod(self.shape)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What an example of a model is made of.

    Attributes:
        inputs: those that its training step takes.
        truth: the target; None where the model is its own target.
        classes: how many there are, if the target is a class's index and that is known; else 0.
            Not a part of ``key``: a version with one class more goes on with the same examples.
        labels: of the classes, by index, as people and models name them; empty if that is the index.
    """

    inputs: tuple[Field, ...]
    truth: Field | None
    classes: int = 0
    labels: tuple[int | str, ...] = ()

    @property
    def key(self) -> str:
        """The same for versions that can learn from each other's examples."""
        return msgspec.json.encode((self.inputs, self.truth, self.labels)).decode()

    @property
    def row_bytes(self) -> int:
        """Of one example."""
        return self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """One example as a packed record, with a field for each input and ``TRUTH``."""
        return _record_of((*self.inputs, self.truth) if self.truth else self.inputs)


@functools.lru_cache(maxsize=64)
def _record_of(fields: tuple[Field, ...]) -> np.dtype[Any]:
    return np.dtype(
        [(one.name, DATATYPES[one.datatype].numpy.newbyteorder("<"), one.shape) for one in fields]
    )


def layout_of(manifest: Manifest, spec: TrainStepSpec, classes: int = 0) -> Layout:
    """The layout of the examples that a version's training step learns from.

    Raises:
        NotCollecting: its inputs or its target can't be kept as rows; says which.
    """
    tensors = {tensor.name: tensor for tensor in manifest.inputs}
    inputs = []
    for name in spec.inputs:
        tensor = tensors.get(name)
        if tensor is None or DATATYPES.get(tensor.dtype) is None:
            raise NotCollecting(f"{manifest.reference}: the training step takes {name!r}, no input")
        if tensor.dtype == "BYTES" or not _in_rows(tensor.shape):
            raise NotCollecting(
                f"{manifest.reference}: input {name!r} ({tensor.dtype} {list(tensor.shape)}) does not "
                "come in rows of one size"
            )
        inputs.append(Field(name, tensor.dtype, tensor.shape[1:]))
    return Layout(
        inputs=tuple(inputs),
        truth=_truth(manifest, spec),
        classes=len(spec.classes) or classes,
        labels=spec.classes,
    )


def _truth(manifest: Manifest, spec: TrainStepSpec) -> Field | None:
    if spec.loss is Loss.RECONSTRUCTION:
        return None
    shape = spec.target_shape
    if not _in_rows(shape):
        raise NotCollecting(
            f"{manifest.reference}: a target of shape {list(shape)} does not come in rows of one size"
        )
    return Field(TRUTH, "INT64" if spec.loss in CLASSES else "FP32", shape[1:])


def _in_rows(shape: tuple[int, ...]) -> bool:
    """Whether it is a batch of rows of one size."""
    return shape[:1] == (VARIABLE,) and all(length > 0 for length in shape[1:])


def packed(layout: Layout, inputs: Tensors, truth: Array | None) -> Array:
    """A record for each row, of dtype ``layout.dtype``.

    ``inputs`` may have others besides; ``truth`` has passed ``truth_of``.

    Raises:
        InvalidRequest: an input is missing, or of another datatype or shape; names it.
    """
    rows = _rows(layout, inputs)
    records = np.zeros(rows, layout.dtype)
    for field in layout.inputs:
        records[field.name] = inputs[field.name]
    if layout.truth is not None and truth is not None:
        records[TRUTH] = truth
    return records


def _rows(layout: Layout, inputs: Tensors) -> int:
    rows = -1
    for field in layout.inputs:
        array = inputs.get(field.name)
        if array is None:
            raise InvalidRequest(f"input {field.name!r}: missing")
        right = DATATYPES[field.datatype].numpy
        if array.dtype != right or array.shape[1:] != field.shape or array.ndim == 0:
            raise InvalidRequest(
                f"input {field.name!r}: {array.dtype} {list(array.shape)} given; it is "
                f"{field.datatype} {[VARIABLE, *field.shape]}"
            )
        if rows not in {VARIABLE, array.shape[0]}:
            raise InvalidRequest("inputs differ in their number of rows")
        rows = array.shape[0]
    return rows


def truth_of(layout: Layout, values: Sequence[Any] | Array, rows: int) -> Array:
    """The truth of so many rows: INT64 or FP32, shape [rows, *layout.truth.shape].

    ``values`` are the model's labels, if it has such; else numbers, flat or nested as the shape says.

    Raises:
        TruthUnfit: of another shape, no numbers, not finite, or no class of the model.
    """
    field = layout.truth
    if field is None:
        raise TruthUnfit("truth: the model is its own target; there is no truth to be told")
    shape = (rows, *field.shape)
    if layout.labels:
        values = _indices(layout.labels, values)
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise TruthUnfit("truth: rows of different lengths") from error
    if given.dtype.kind not in "iuf":
        raise TruthUnfit("truth: a value is no number; numbers are wanted")
    if given.size != math.prod(shape):
        each = math.prod(field.shape)
        wanted = f"{rows} x {each}" if each != 1 else f"{rows}"
        raise TruthUnfit(f"truth: {given.size} values for {rows} rows; {wanted} numbers are wanted")
    if given.ndim > 1 and given.shape != shape:
        raise TruthUnfit(f"truth: of shape {list(given.shape)}; it is {list(shape)}")
    if not np.isfinite(given).all():
        raise TruthUnfit("truth: a value is not finite")
    return (
        _class_indices(layout, given, shape) if field.datatype == "INT64" else _floats(given, shape)
    )


def _indices(labels: tuple[int | str, ...], values: Sequence[Any] | Array) -> list[int]:
    index = {label: at for at, label in enumerate(labels)}
    found = []
    for one in values.tolist() if isinstance(values, np.ndarray) else values:
        # To a dictionary True is 1, and to JSON it is not.
        at = index.get(one) if type(one) in {int, float, str} else None
        if at is None:
            known = ", ".join(repr(label) for label in labels[:MOST_TOLD])
            raise TruthUnfit(f"truth: a value is no label of the model; there are {known}")
        found.append(at)
    return found


def _floats(given: Array, shape: tuple[int, ...]) -> Array:
    with np.errstate(over="ignore"):
        found = given.astype(np.float32).reshape(shape)
    if not np.isfinite(found).all():
        raise TruthUnfit("truth: a value is beyond what a float32 can hold")
    return found


def _class_indices(layout: Layout, given: Array, shape: tuple[int, ...]) -> Array:
    highest = layout.classes - 1 if layout.classes else int(np.iinfo(np.int32).max)
    if not ((given >= 0) & (given <= highest) & (given == np.floor(given))).all():
        upto = f"to {highest}" if layout.classes else "on"
        raise TruthUnfit(f"truth: a value is no class; classes are whole numbers from 0 {upto}")
    return given.astype(np.int64).reshape(shape)


def records(layout: Layout, data: bytes | bytearray | memoryview) -> Array:
    """The rows in ``data``, which stand behind one another: a view, of dtype ``layout.dtype``."""
    return np.frombuffer(data, layout.dtype)


def finite(layout: Layout, rows: Array) -> Array:
    """Those rows whose inputs are all finite: one that is not would make every loss NaN."""
    good = np.ones(len(rows), np.bool_)
    for field in layout.inputs:
        if rows[field.name].dtype.kind == "f":
            good &= np.isfinite(rows[field.name]).reshape(len(rows), -1).all(axis=1)
    return rows[good]
