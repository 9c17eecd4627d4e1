"""One version in memory: its model, the requests that are on it, and what they were."""

import logging
from contextlib import AbstractContextManager
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from agent.inference.signature import signature_of
from agent.inference.traffic import Traffic, TrafficCounts
from agent.runtimes.runtime import LoadedModel, Tensors
from protos.manifest import Manifest

log = logging.getLogger(__name__)

MISTAKES: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a mistake may raise in who only looks on: the answer is right all the same."""


class Observer(Protocol):
    """Sees every answered request, from any thread."""

    def observe(self, inputs: Tensors, outputs: Tensors) -> None:
        """Counts what one request brought and what it was answered, whatever was asked for."""
        ...


ObserverT = TypeVar("ObserverT", bound=Observer)
ReferenceT = TypeVar("ReferenceT")


class Outcome(Enum):
    """How a request ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"


class Deployment(Generic[ObserverT, ReferenceT]):
    """One version in memory, with the requests that are on it.

    Attributes:
        model: its name.
        version: the model version's number.
        manifest_sha256: names the manifest.
        manifest: the manifest.
        loaded: the model in its runtime.
        signature: of its inputs and outputs.
        reference: what its data are compared with.
        observer: sees its requests.

    Args:
        lock: guards the counts; held for a few instructions only.
    """

    def __init__(
        self,
        manifest: Manifest,
        loaded: LoadedModel,
        reference: ReferenceT,
        observer: ObserverT,
        lock: AbstractContextManager[object],
    ) -> None:
        self.model = manifest.model
        self.version = manifest.version
        self.manifest_sha256 = manifest.digest
        self.manifest = manifest
        self.loaded = loaded
        self.signature = signature_of(manifest)
        self.reference = reference
        self.observer = observer
        self._lock = lock
        self._in_flight = 0
        self._retired = False
        self._traffic = Traffic()
        self._activated_at = TrafficCounts()
        self._drained = TrafficCounts()
        self._unwatched = False

    def enter(self) -> bool:
        """Takes a reference for one request; False if it is too late for that."""
        with self._lock:
            if self._retired:
                return False
            self._in_flight += 1
            return True

    def leave(self, outcome: Outcome, seconds: float) -> None:
        """Gives the reference back, and counts the request."""
        with self._lock:
            if outcome is Outcome.ANSWERED:
                self._traffic.answered(seconds)
            elif outcome is Outcome.FAILED:
                self._traffic.failed()
            else:
                self._traffic.refused()
            self._in_flight -= 1
            last = self._retired and self._in_flight == 0
        if last:
            self.loaded.close()

    def retire(self) -> None:
        """Takes no more requests; the model is freed when the last of them has left."""
        with self._lock:
            last = not self._retired and self._in_flight == 0
            self._retired = True
        if last:
            self.loaded.close()

    def observe(self, inputs: Tensors, outputs: Tensors) -> None:
        """Shows one request to the observer. A mistake there is logged once and fails no request."""
        try:
            self.observer.observe(inputs, outputs)
        except MISTAKES:
            if not self._unwatched:
                self._unwatched = True
                log.exception("inference.unwatched version=%s", self.manifest.reference)

    def activate(self) -> None:
        """It answers from here on."""
        with self._lock:
            self._activated_at = self._traffic.totals()

    def since_activation(self) -> TrafficCounts:
        """What requests there were since it last began to answer."""
        with self._lock:
            return self._traffic.totals().since(self._activated_at)

    def drain_traffic(self) -> TrafficCounts:
        """What requests there were since it was last called: each is in just one answer."""
        with self._lock:
            totals = self._traffic.totals()
            fresh, self._drained = totals.since(self._drained), totals
        return fresh
