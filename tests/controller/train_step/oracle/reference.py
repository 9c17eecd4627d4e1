"""What PyTorch says that a gradient is, as ``make oracle`` wrote it down: tests need no PyTorch."""

import io
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FOLDER: Final = Path(__file__).resolve().parent / "references"


@dataclass(frozen=True, slots=True)
class Reference:
    """One model, one batch, and what PyTorch makes of them.

    Attributes:
        model: the ONNX file.
        loss: a ``protos.train_step.Loss``.
        inputs: the batch, by the names of the model's inputs.
        target: the truth; empty where the loss asks for none.
        value: the loss, of ``loss`` over this batch.
        tensors: what is expected, by names of initializers: gradients, or where the file's
            docstring says so the parameters after some steps. Reckoned in float64, kept in float32.
        sample_weight: [batch]; empty where every sample weighs the same.
    """

    name: str
    model: bytes
    loss: str
    inputs: Mapping[str, Array]
    target: Array
    value: float
    tensors: Mapping[str, Array]
    sample_weight: Array = field(default_factory=lambda: np.zeros(0, np.float32))


def write(file: str, references: Iterable[Reference]) -> int:
    """Writes a file of references, the same bytes for the same references; returns its size."""
    members: dict[str, Array] = {}
    for one in references:
        parts = {
            "model": np.frombuffer(one.model, np.uint8),
            "loss": np.array(one.loss),
            "target": one.target,
            "value": np.array(one.value),
            "sample_weight": one.sample_weight,
            **{f"input|{name}": array for name, array in one.inputs.items()},
            **{f"tensor|{name}": array.astype(np.float32) for name, array in one.tensors.items()},
        }
        assert f"{one.name}|model" not in members, f"two references are named {one.name}"
        members |= {f"{one.name}|{part}": array for part, array in parts.items()}
    plain = io.BytesIO()
    np.savez(plain, allow_pickle=False, **members)
    packed = lzma.compress(plain.getvalue(), preset=9)
    (FOLDER / f"{file}.npz.xz").write_bytes(packed)
    return len(packed)


def read(file: str) -> dict[str, Reference]:
    """The references of a file, by their names, in the order in which they were written."""
    packed = (FOLDER / f"{file}.npz.xz").read_bytes()
    found: dict[str, dict[str, Array]] = {}
    with np.load(io.BytesIO(lzma.decompress(packed)), allow_pickle=False) as members:
        for member in members.files:
            name, _, part = member.partition("|")
            found.setdefault(name, {})[part] = members[member]
    return {name: _reference(name, parts) for name, parts in found.items()}


def _reference(name: str, parts: Mapping[str, Array]) -> Reference:
    return Reference(
        name=name,
        model=parts["model"].tobytes(),
        loss=str(parts["loss"]),
        inputs=_below("input|", parts),
        target=parts["target"],
        value=float(parts["value"]),
        tensors=_below("tensor|", parts),
        sample_weight=parts["sample_weight"],
    )


def _below(prefix: str, parts: Mapping[str, Array]) -> dict[str, Array]:
    return {
        part.removeprefix(prefix): array for part, array in parts.items() if part.startswith(prefix)
    }
