"""A runtime for small linear models in plain numpy: JSON in place of ONNX, and no library to load."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.errors import InferenceFailed, ModelLoadFailed
from agent.runtimes.runtime import Tensors
from protos.documents import sha256
from protos.manifest import Manifest, Tensor

_DTYPES: Final = {"FP32": np.float32, "FP64": np.float64}


class LinearFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``scores = x · weights + bias`` and ``label = argmax(scores)``, one row a feature."""

    input: str
    scores: str
    label: str
    weights: Annotated[tuple[tuple[float, ...], ...], msgspec.Meta(min_length=1)]
    bias: Annotated[tuple[float, ...], msgspec.Meta(min_length=1)]
    dtype: str = "FP32"


class LinearModel:
    """A linear model in memory."""

    def __init__(self, file: LinearFile, digest: str) -> None:
        dtype = _DTYPES[file.dtype]
        self._file = file
        self._weights = np.array(file.weights, dtype=dtype)
        self._bias = np.array(file.bias, dtype=dtype)
        self._closed = False
        self.sha256 = digest

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The named outputs, in that order.

        Raises:
            InferenceFailed: an input or output is unknown or does not fit, or the model is closed.
        """
        if self._closed:
            raise InferenceFailed("the model is closed")
        try:
            scores = inputs[self._file.input] @ self._weights + self._bias
            every = {self._file.scores: scores, self._file.label: scores.argmax(axis=1)}
            return [every[name] for name in outputs]
        except (KeyError, TypeError, ValueError) as error:
            raise InferenceFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Frees the model. No ``run`` may be under way."""
        self._closed = True


class MemoryRuntime:
    """Loads ``LinearFile`` models."""

    name = "memory"
    version = "1"

    def load(self, model: bytes, manifest: Manifest) -> LinearModel:
        """The model in these bytes.

        Raises:
            ModelLoadFailed: not a ``LinearFile``, or not the manifest's inputs and outputs.
        """
        try:
            file = msgspec.json.decode(model, type=LinearFile)
        except (ValueError, RecursionError) as error:
            raise ModelLoadFailed(f"{manifest.reference}: {error}") from error
        if file.dtype not in _DTYPES or {len(row) for row in file.weights} != {len(file.bias)}:
            raise ModelLoadFailed(f"{manifest.reference}: weights, bias and dtype do not fit")
        features, classes = len(file.weights), len(file.bias)
        given = {
            file.input: (file.dtype, (-1, features)),
            file.scores: (file.dtype, (-1, classes)),
            file.label: ("INT64", (-1,)),
        }
        wanted = (*manifest.inputs, *manifest.outputs)
        objections = [
            f"{one.name!r} is {given.get(one.name, 'missing')}, not {(one.dtype, one.shape)}"
            for one in wanted
            if given.get(one.name) != (one.dtype, one.shape)
        ]
        if objections or _names(manifest.inputs) != [file.input]:
            raise ModelLoadFailed(
                f"{manifest.reference}: the model is not what the manifest says: "
                + "; ".join(objections or [f"it takes {file.input!r}"])
            )
        return LinearModel(file, sha256(model))


def _names(tensors: Sequence[Tensor]) -> list[str]:
    return [tensor.name for tensor in tensors]
