"""What an install needs of the rest of the agent: five small seams, carried out by others.

Methods that wait return an ``Awaitable`` (write them with ``async def``); the others return at once
and are called on the event loop's thread.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from agent.install.record import Deployed
from protos.documents import Assignment
from protos.manifest import Manifest


class VerifiedVersion(Protocol):
    """A version that this device may run, by everything it believes now."""

    @property
    def manifest(self) -> Manifest: ...  # noqa: D102 - the signed manifest

    @property
    def approvals(self) -> int: ...  # noqa: D102 - approvers' signatures that were verified here


class Trust(Protocol):
    """Whether a version may run here."""

    def verify(self, assignment: Assignment) -> Awaitable[VerifiedVersion]:
        """The version, once directive and image metadata agree on it.

        Raises:
            Untrusted: it may not run; the class says why.
            TransportError, Refused: newer metadata could not be had.
        """
        ...


class Fetcher(Protocol):
    """Brings blobs."""

    def fetch(self, sha256: str, length: int) -> Awaitable[None]:
        """Returns when the blob is complete in the blob store; goes on where it stopped before.

        Raises:
            TransportError, Refused: it did not come, or not all of it; what came is kept.
            HashMismatch, EndlessData: other bytes came.
            DiskFull: no room.
        """
        ...


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What the golden inputs showed.

    Attributes:
        p99_seconds: of one inference.
        peak_memory_bytes: of the child process while it ran, over what it had before it loaded.
        max_difference: the largest |got - golden| over all outputs.
    """

    p99_seconds: float
    peak_memory_bytes: int
    max_difference: float


class SelfTest(Protocol):
    """Runs a version's golden inputs in a process of its own."""

    def run(self, manifest: Manifest) -> Awaitable[SelfTestResult]:
        """The result of a test that passed; its files are in the blob store.

        Raises:
            ModelLoadFailed, SelfTestMismatch, SelfTestCrashed, SelfTestTimeout, SelfTestMemory,
            SelfTestSlow: it did not pass.
            HashMismatch: a file is not there, or not the one that was signed.
            NoProcess, SelfTestKilled: it could not be tested now; that says nothing of the version.
        """
        ...


class TrafficSnapshot(msgspec.Struct, frozen=True):
    """What a slot's active version was asked since it was activated.

    Attributes:
        requests: all that fitted the signature, failed ones too.
        failed: those on which the runtime failed.
        p99_seconds: of those answered; 0.0 while there is none.
    """

    requests: int = 0
    failed: int = 0
    p99_seconds: float = 0.0


class Deployments(Protocol):
    """The models in memory. A slot answers with one version and may keep the one before it warm."""

    def prepare(self, deployed: Deployed, manifest: Manifest) -> Awaitable[None]:
        """Returns when the version is loaded, warm and answers nothing yet: its model's candidate.

        It replaces a candidate of the same model that was never activated. May be cancelled.

        Raises:
            ModelLoadFailed: the runtime can't load it.
            StoreError, HashMismatch: its files are not in the blob store.
        """
        ...

    def activate(self, model: str, slot: str) -> None:
        """The model's candidate answers from now on; the version before it is kept warm.

        Raises:
            ModelLoadFailed: there is no candidate: another slot of the model may have freed it.
        """
        ...

    def release_previous(self, model: str, slot: str) -> None:
        """Frees the version that was kept warm, once its last request is done. May be repeated."""
        ...

    def revert(self, model: str, slot: str) -> None:
        """The version that was kept warm answers again; the one that did not prove itself is freed.

        After ``release_previous`` what answers is proven: then it stays, and a candidate is freed.
        """
        ...

    def remove(self, model: str, slot: str) -> None:
        """The slot answers no more; its versions are freed. Harmless for a slot that is not."""
        ...

    def traffic(self, model: str, slot: str) -> TrafficSnapshot:
        """Counts since the active version was activated."""
        ...
