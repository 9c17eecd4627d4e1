"""A power supply that may fail between any two steps, for whatever is plugged into it."""

import contextlib
from collections.abc import Iterator

from agent.federated.record import Journal
from agent.store.blob_store import BlobWriter
from agent.store.device_store import (
    DeviceStore,
    IdentityStore,
    InstallStore,
    JournalStore,
    Spool,
    TrustStore,
    WindowStore,
)
from simulations.memory_blobs import MemoryBlobs


class PowerCut(BaseException):
    """Power went. Nothing that runs may catch it, and nothing is done after it."""


class Power:
    """Counts steps, and goes at one of them.

    Attributes:
        steps: what was done, in order.
    """

    def __init__(self, cut_at: int | None = None) -> None:
        self.cut_at = cut_at
        self.steps: list[str] = []
        self.gone = False

    def step(self, name: str) -> None:
        """Returns while there is power.

        Raises:
            PowerCut: there is none, from step number ``cut_at`` (from 0) on.
        """
        if self.gone or len(self.steps) == self.cut_at:
            self.gone = True
            raise PowerCut(name)
        self.steps.append(name)


class PoweredStore:
    """A ``DeviceStore`` that power may leave before or after any of its transactions."""

    def __init__(self, store: DeviceStore, power: Power) -> None:
        self._store = store
        self._power = power

    @property
    def identity(self) -> IdentityStore:
        """See ``DeviceStore``."""
        return self._store.identity

    @property
    def trust(self) -> TrustStore:
        """See ``DeviceStore``."""
        return self._store.trust

    @property
    def installs(self) -> InstallStore:
        """See ``DeviceStore``."""
        return self._store.installs

    @property
    def spool(self) -> Spool:
        """See ``DeviceStore``."""
        return self._store.spool

    @property
    def windows(self) -> WindowStore:
        """See ``DeviceStore``."""
        return self._store.windows

    @property
    def journal(self) -> "PoweredJournal":
        """See ``DeviceStore``."""
        return PoweredJournal(self._store.journal, self._power)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block is durable, or, if power goes before the end, nothing."""
        with self._store.transaction():
            yield
            self._power.step("store: before the commit")
        self._power.step("store: after the commit")

    def close(self) -> None:
        """See ``DeviceStore``."""
        self._store.close()


class PoweredJournal:
    """A ``JournalStore`` that power may leave before or after it has written."""

    def __init__(self, journal: JournalStore, power: Power) -> None:
        self._journal = journal
        self._power = power

    def load(self) -> Journal:
        """See ``JournalStore``."""
        return self._journal.load()

    def save(self, journal: Journal) -> None:
        """See ``JournalStore``."""
        self._power.step("journal: before it is written")
        self._journal.save(journal)
        self._power.step("journal: after it is written")


class PoweredBlobs(MemoryBlobs):
    """A ``BlobStore`` that power may leave at any write; what it held is given to the next one."""

    def __init__(self, power: Power, before: MemoryBlobs | None = None) -> None:
        super().__init__()
        self._power = power
        if before is not None:
            self.capacity = before.capacity
            self.complete, self.partial = before.complete, before.partial

    def writer(self, sha256: str, length: int) -> BlobWriter:  # type: ignore[override]
        """See ``BlobStore``."""
        return PoweredWriter(super().writer(sha256, length), self._power)


class PoweredWriter:
    """A ``BlobWriter`` that power may leave."""

    def __init__(self, writer: BlobWriter, power: Power) -> None:
        self._writer = writer
        self._power = power

    @property
    def offset(self) -> int:
        """See ``BlobWriter``."""
        return self._writer.offset

    def write(self, data: bytes) -> None:
        """See ``BlobWriter``."""
        self._power.step("blob: before a write")
        self._writer.write(data)

    def finish(self) -> None:
        """See ``BlobWriter``."""
        self._power.step("blob: before it has its name")
        self._writer.finish()
        self._power.step("blob: after it has its name")

    def close(self) -> None:
        """See ``BlobWriter``."""
        self._writer.close()
