"""The seam between the servers and what is kept to learn from."""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from agent.federated.errors import NotCollecting
from agent.runtimes.runtime import Tensors


class Collecting(Protocol):
    """Keeps examples. Every method may be called from any thread.

    ``feedback`` and ``add`` return how many rows were kept, and raise:

    * ``UnknownModel``, ``NotReady``: no such model here, or not that version.
    * ``NotCollecting``: no examples are kept of it.
    * ``TruthUnfit``: the truth is not of the model's target.
    * ``StoreError``: the disk can't be written.
    """

    def answered(self, model: str, version: int, request_id: str, inputs: Tensors) -> None:
        """A request was answered; ``request_id`` is empty if it had none. Raises nothing."""
        ...

    def feedback(
        self, model: str, version: int | None, request_id: str, truth: Sequence[Any]
    ) -> int:
        """The truth of each row of an answered request. Told again, it is corrected.

        Raises:
            UnknownRequest: no request of that id is remembered.
        """
        ...

    def add(
        self,
        model: str,
        version: int | None,
        inputs: Tensors,
        truth: Sequence[Any] | None,
        example_id: str = "",
    ) -> int:
        """Rows that no request brought, with their truth; none where the model is its own target.

        Raises:
            InvalidRequest: the inputs are not the model's; names one.
        """
        ...


class NothingCollected:
    """Keeps nothing: what the device's owner has not asked for does not happen."""

    def answered(self, model: str, version: int, request_id: str, inputs: Tensors) -> None:
        """Nothing happens."""

    def feedback(
        self,
        model: str,
        version: int | None,  # noqa: ARG002 - as below: names are the seam's
        request_id: str,  # noqa: ARG002
        truth: Sequence[Any] | None,  # noqa: ARG002
    ) -> int:
        """Nothing is kept.

        Raises:
            NotCollecting: always.
        """
        raise NotCollecting(f"model {model!r}: training.collect is off on this device")

    def add(
        self,
        model: str,
        version: int | None,
        inputs: Tensors,  # noqa: ARG002
        truth: Sequence[Any] | None,
        example_id: str = "",
    ) -> int:
        """As ``feedback``."""
        return self.feedback(model, version, example_id, truth)


NOTHING: Final[Collecting] = NothingCollected()
