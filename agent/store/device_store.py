"""The seam between the agent and its disk: small stores that share one transaction.

Every write is durable when it returns (``synchronous=FULL``), unless it stands in a
``transaction()``: then all of the block is, or none. Power may go at any write.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from agent.federated.record import Journal
from agent.install.record import Install, Slot


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is, and where its controller is. The private key is a file of its own.

    What it knows of a broker is empty where there is none: ``broker_enrolment_address`` is of the
    listener for who has no good certificate.
    """

    device: str
    certificate_pem: bytes
    server_ca_pem: bytes
    session_address: str
    enrolment_address: str
    root_metadata: bytes  # the pinned TUF root
    broker_address: str = ""
    broker_enrolment_address: str = ""
    broker_ca_pem: bytes = b""


@dataclass(frozen=True, slots=True)
class TrustedState:
    """What the device believes of the image side: metadata by file name, and what only grows.

    Attributes:
        metadata: "root.json", "timestamp.json", "models-digits.json", … as last verified.
        latest_time: Unix seconds of the latest time that a trusted source has shown.
        floors: lowest release counter that may run, by model.
        recalled: "MODEL/SHA256" of manifests that must never run again: a model's approvers decide
            on their own model only. Ask ``agent.trust.floor``, which knows the form.
    """

    metadata: Mapping[str, bytes] = field(default_factory=dict)
    latest_time: int = 0
    floors: Mapping[str, int] = field(default_factory=dict)
    recalled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A version that failed here, and is refused until that is lifted or people ask for it again.

    Attributes:
        model: empty in a record of an agent that did not keep it; then ``version`` is 0.
        code: of the failure; ``detail`` says what was wrong. ``at`` is in Unix seconds.
        rollout, attempt: the assignment's, under which it failed.
    """

    manifest_sha256: str
    model: str
    version: int
    code: str
    detail: str
    at: float
    rollout: str = ""
    attempt: int = 1

    def refuses(self, rollout: str, attempt: int) -> bool:
        """Whether the version is kept out when that rollout asks for it so often.

        Attempts are counted by rollout: of another one, any but the first was asked for by people who
        knew that it is kept out here.
        """
        return attempt <= (self.attempt if rollout == self.rollout else 1)


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One serialised ``muster.v1.Record`` (without its sequence) that waits to be sent."""

    sequence: int
    kind: str
    recorded_ms: int
    payload: bytes


class IdentityStore(Protocol):
    """Who this device is."""

    def load(self) -> Identity | None:
        """The identity, or None before enrolment."""
        ...

    def save(self, identity: Identity) -> None:
        """Replaces the identity."""
        ...

    def next_counter(self) -> int:
        """1, 2, 3, …: never the same twice, over restarts too."""
        ...


class TrustStore(Protocol):
    """What the device believes of the image side."""

    def load(self) -> TrustedState:
        """The state; empty before the first refresh."""
        ...

    def save(self, state: TrustedState) -> None:
        """Replaces all of it at once."""
        ...


class InstallStore(Protocol):
    """What shall run, what does run, and what is being tried."""

    def directive(self) -> bytes:
        """The newest accepted directive's envelope; empty if there was none."""
        ...

    def generation(self) -> int:
        """The highest generation accepted; 0 if there was none. Decreases only by ``forget_directive``."""
        ...

    def save_directive(self, envelope: bytes, generation: int) -> None:
        """Replaces the directive."""
        ...

    def forget_directive(self) -> None:
        """There was none: for a new identity, whose generations begin anew. Slots stay."""
        ...

    def slots(self) -> Sequence[Slot]:
        """Every slot that points at something."""
        ...

    def save_slot(self, slot: Slot) -> None:
        """Replaces the slot of that model and name."""
        ...

    def remove_slot(self, model: str, name: str) -> None:
        """Forgets the slot."""
        ...

    def installs(self) -> Sequence[Install]:
        """The newest install of every slot."""
        ...

    def save_install(self, install: Install) -> None:
        """Replaces the install of that model and slot."""
        ...

    def remove_install(self, model: str, slot: str) -> None:
        """Forgets the install."""
        ...

    def quarantine(self, failed: Quarantine) -> None:
        """Remembers that this version failed here; keeps what it knows if that refuses the attempt."""
        ...

    def quarantines(self) -> Sequence[Quarantine]:
        """Every version that failed here, the oldest failure first."""
        ...

    def quarantined(self, manifest_sha256: str) -> Quarantine | None:
        """Why this version failed here, or None."""
        ...

    def lift_quarantine(self, manifest_sha256: str) -> None:
        """Lets the version be tried again."""
        ...


class Spool(Protocol):
    """Records that wait for the controller: bounded; ``spool_order`` says what is dropped first.

    Kinds by value, most valuable first: report, event, window, resources.
    """

    @property
    def spool_id(self) -> str:
        """Made with the spool: sequences are unique within it."""
        ...

    def put(self, kind: str, payload: bytes, recorded_ms: int) -> int:
        """The record's sequence. Drops and counts what no longer fits."""
        ...

    def batch(self, records: int, size: int) -> Sequence[SpoolRecord]:
        """The oldest records: at most so many, and so many bytes unless the first is larger."""
        ...

    def forget(self, through: int) -> None:
        """Removes every record up to and with that sequence: the controller has them."""
        ...

    def dropped(self) -> Mapping[str, int]:
        """How many of each kind were dropped since the spool was made."""
        ...

    def __len__(self) -> int:
        """How many records wait."""
        ...


class WindowStore(Protocol):
    """Open windows, so that a restart goes on with them."""

    def checkpoints(self) -> Mapping[str, bytes]:
        """Open windows by key, as last saved."""
        ...

    def checkpoint(self, key: str, window: bytes) -> None:
        """Saves an open window."""
        ...

    def discard(self, key: str) -> None:
        """Forgets an open window."""
        ...


class JournalStore(Protocol):
    """The device's part in federated runs."""

    def load(self) -> Journal:
        """The journal; an empty one before the first task."""
        ...

    def save(self, journal: Journal) -> None:
        """Replaces all of it at once."""
        ...


class DeviceStore(Protocol):
    """Everything that the agent keeps, apart from blobs and its key."""

    @property
    def identity(self) -> IdentityStore: ...  # noqa: D102 - see the type

    @property
    def trust(self) -> TrustStore: ...  # noqa: D102

    @property
    def installs(self) -> InstallStore: ...  # noqa: D102

    @property
    def spool(self) -> Spool: ...  # noqa: D102

    @property
    def windows(self) -> WindowStore: ...  # noqa: D102

    @property
    def journal(self) -> JournalStore: ...  # noqa: D102

    def transaction(self) -> AbstractContextManager[None]:
        """All writes of the block become durable together, or none does. May not be nested."""
        ...

    def close(self) -> None:
        """Closes the store. May be called twice."""
        ...
