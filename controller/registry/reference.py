"""Reference data: rows that fit a model's inputs, and the truth for them if there is any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from agent.inference.datatypes import DATATYPES, Array
from controller.errors import BadReference
from controller.registry.npz_file import read_arrays
from controller.registry.onnx_file import OnnxFile
from controller.registry.onnx_ports import Port

TRUTH_NAMES: Final = ("y", "label", "labels", "target", "targets", "truth")
SINGLE_INPUT_NAMES: Final = ("x", "X")
_SHOWN_OBJECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """Rows that fit the model's inputs, and the truth for them if the file has it.

    Attributes:
        inputs: by input name, each with ``rows`` rows.
        truth: rank 1; of numbers, or of ``str`` objects.
        notes: what was done to make the arrays fit, in words.
    """

    inputs: Mapping[str, Array]
    truth: Array | None
    rows: int
    notes: tuple[str, ...] = ()


def read_reference(data: bytes, model: OnnxFile, file: str = "reference.npz") -> ReferenceData:
    """The reference data in ``data``, as the inputs of ``model``.

    Arrays are named as the inputs; a single input's may have any name. The truth is the array
    called one of ``TRUTH_NAMES``. Dtypes change only where no value does.

    Raises:
        TooLarge: the file, or what it unpacks to, is too large.
        BadReference: it does not fit; names the file and the array.
    """
    return fitted(read_arrays(data, file), model, file)


def fitted(arrays: Mapping[str, Array], model: OnnxFile, file: str) -> ReferenceData:
    """The arrays as inputs of ``model`` and truth.

    Raises:
        BadReference: they don't fit; says everything that is wrong, naming each array.
    """
    named, truth_name, notes, objections = _named(arrays, model)
    inputs: dict[str, Array] = {}
    for port in model.inputs:
        if port.name in named:
            source = named[port.name]
            array, said, wrong = _as_input(source, arrays[source], port)
            inputs[port.name] = array
            notes += said
            objections += wrong
    truth = None
    if truth_name:
        truth = arrays[truth_name]
        if truth.ndim == 2 and truth.shape[1] == 1:
            truth = truth[:, 0]
        if truth.ndim != 1:
            objections.append(
                f"array {truth_name!r}: the truth has one value a row, not {_shown(truth)}"
            )
    rows = {
        name: len(arrays[name])
        for name in (*named.values(), *([truth_name] * bool(truth_name)))
        if arrays[name].ndim
    }
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name} {count:,}" for name, count in rows.items())
        objections.append(f"the arrays differ in their number of rows: {counts}")
    if objections:
        raise BadReference(f"{file}: " + "; ".join(objections[:_SHOWN_OBJECTIONS]))
    return ReferenceData(inputs, truth, next(iter(rows.values())), tuple(notes))


def _named(
    arrays: Mapping[str, Array], model: OnnxFile
) -> tuple[dict[str, str], str, list[str], list[str]]:
    """Array names by input, the truth's name, notes and objections."""
    wanted = [port.name for port in model.inputs]
    named = {name: name for name in wanted if name in arrays}
    others = [name for name in arrays if name not in named]
    notes = []
    truths = [name for name in others if name in TRUTH_NAMES]
    if len(wanted) == 1 and not named:
        candidates = [name for name in others if name not in truths]
        preferred = [name for name in candidates if name in SINGLE_INPUT_NAMES] or candidates
        if len(preferred) == 1:
            named = {wanted[0]: preferred[0]}
            others.remove(preferred[0])
            notes.append(f"array {preferred[0]!r} is taken for the input {wanted[0]!r}")
    objections = [
        f"no array for input {name!r}; there are {_list(arrays)}"
        for name in wanted
        if name not in named
    ]
    if len(truths) > 1:
        objections.append(f"arrays {_list(truths)}: which is the truth? Keep one of them")
    objections += [
        f"array {name!r} is neither an input ({_list(wanted)}) nor the truth "
        f"({', '.join(TRUTH_NAMES)})"
        for name in others
        if name not in truths
    ]
    return named, truths[0] if truths else "", notes, objections


def _as_input(name: str, array: Array, port: Port) -> tuple[Array, list[str], list[str]]:
    """The array as the port's dtype, notes and objections."""
    expected = (port.shape or ())[1:]
    shown = f"[{', '.join(['rows', *map(str, expected)])}]"
    if array.shape[1:] != expected or not array.ndim:
        return array, [], [f"array {name!r}: {_shown(array)}; input {port.name!r} takes {shown}"]
    target = DATATYPES[port.dtype].numpy
    if array.dtype == target:
        return array, [], []
    converted = _converted(array, target)
    if converted is None:
        written = "str" if target.hasobject else str(target)
        objection = (
            f"array {name!r}: {array.dtype}, with values that {port.dtype} can't hold exactly; "
            f"save it with .astype('{written}')"
        )
        return array, [], [objection]
    return converted, [f"array {name!r}: {array.dtype} became {target}, every value the same"], []


def _converted(array: Array, target: np.dtype[Any]) -> Array | None:
    """The array as ``target``, or None if a value would change."""
    if target.hasobject or array.dtype.hasobject:
        return None
    with np.errstate(all="ignore"):
        there = array.astype(target)
        back = there.astype(array.dtype)
    same = (back == array) | ((back != back) & (array != array))  # noqa: PLR0124 - NaN is unequal to itself
    finite = np.isfinite(array) if array.dtype.kind == "f" and target.kind != "f" else True
    return there if bool(np.all(same & finite)) else None


def _shown(array: Array) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _list(names: Sequence[str] | Mapping[str, Array]) -> str:
    return ", ".join(repr(name) for name in names)
