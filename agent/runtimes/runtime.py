"""The seam between a model file and whatever executes it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from numpy.typing import NDArray

from protos.manifest import Manifest

Tensors = Mapping[str, NDArray]  # type: ignore[type-arg]  # dtypes differ by tensor


class LoadedModel(Protocol):
    """A model in memory, ready to answer from any thread.

    Attributes:
        sha256: digest of the very bytes that the runtime was given.
    """

    @property
    def sha256(self) -> str: ...  # noqa: D102 - see Attributes

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> list[NDArray]:  # type: ignore[type-arg]
        """The named outputs, in that order.

        Raises:
            InferenceFailed: the runtime failed.
        """
        ...

    def close(self) -> None:
        """Frees the model. No ``run`` may be under way."""
        ...


class Runtime(Protocol):
    """Loads models of one kind."""

    @property
    def name(self) -> str:
        """As in ``Needs.runtime``: "onnxruntime"."""
        ...

    @property
    def version(self) -> str:
        """The runtime library's own version."""
        ...

    def load(self, model: bytes, manifest: Manifest) -> LoadedModel:
        """The model, warmed up by nothing yet.

        Raises:
            ModelLoadFailed: these bytes are no model that the runtime can run, or its inputs and
                outputs are not the manifest's.
        """
        ...
