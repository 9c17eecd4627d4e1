"""The device's store without a disk: for tests and simulations."""

import contextlib
import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.errors import StaleDirective, StoreError
from agent.federated.record import Journal
from agent.install.record import Install, Slot
from agent.store.device_store import Identity, Quarantine, SpoolRecord, TrustedState
from agent.store.spool_order import (
    DEFAULT_LIMITS,
    SpoolLimits,
    Totals,
    check_kind,
    next_to_go,
)


@dataclass
class Contents:
    """What would be on the disk; values are frozen, so a shallow copy of each table is a copy."""

    identity: Identity | None = None
    counter: int = 0
    trust: TrustedState = field(default_factory=TrustedState)
    envelope: bytes = b""
    generation: int = 0
    slots: dict[tuple[str, str], Slot] = field(default_factory=dict)
    installs: dict[tuple[str, str], Install] = field(default_factory=dict)
    quarantine: dict[str, Quarantine] = field(default_factory=dict)
    sequence: int = 0
    spool: dict[int, SpoolRecord] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    windows: dict[str, bytes] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)

    def copied(self) -> "Contents":
        """Contents of their own."""
        twin = copy.copy(self)
        for name, table in vars(self).items():
            if isinstance(table, dict):
                setattr(twin, name, dict(table))
        return twin


class MemoryIdentityStore:
    """See ``IdentityStore``."""

    def __init__(self, store: "MemoryDeviceStore") -> None:
        self._store = store

    def load(self) -> Identity | None:
        """The identity, or None before enrolment."""
        with self._store.turn() as contents:
            return contents.identity

    def save(self, identity: Identity) -> None:
        """Replaces the identity."""
        with self._store.turn() as contents:
            contents.identity = identity

    def next_counter(self) -> int:
        """1, 2, 3, …."""
        with self._store.turn() as contents:
            contents.counter += 1
            return contents.counter


class MemoryTrustStore:
    """See ``TrustStore``."""

    def __init__(self, store: "MemoryDeviceStore") -> None:
        self._store = store

    def load(self) -> TrustedState:
        """The state; empty before the first refresh."""
        with self._store.turn() as contents:
            return contents.trust

    def save(self, state: TrustedState) -> None:
        """Replaces all of it at once."""
        with self._store.turn() as contents:
            contents.trust = TrustedState(
                dict(state.metadata), state.latest_time, dict(state.floors), state.recalled
            )


class MemoryInstallStore:
    """See ``InstallStore``."""

    def __init__(self, store: "MemoryDeviceStore") -> None:
        self._store = store

    def directive(self) -> bytes:
        """The newest accepted directive's envelope."""
        with self._store.turn() as contents:
            return contents.envelope

    def generation(self) -> int:
        """The highest generation accepted."""
        with self._store.turn() as contents:
            return contents.generation

    def save_directive(self, envelope: bytes, generation: int) -> None:
        """Replaces the directive by one that is not older."""
        with self._store.turn() as contents:
            if generation < contents.generation:
                raise StaleDirective(
                    f"generation {generation}; {contents.generation} was accepted before"
                )
            contents.envelope, contents.generation = envelope, generation

    def forget_directive(self) -> None:
        """There was none."""
        with self._store.turn() as contents:
            contents.envelope, contents.generation = b"", 0

    def slots(self) -> Sequence[Slot]:
        """Every slot that points at something."""
        with self._store.turn() as contents:
            return [contents.slots[key] for key in sorted(contents.slots)]

    def save_slot(self, slot: Slot) -> None:
        """Replaces the slot of that model and name."""
        with self._store.turn() as contents:
            contents.slots[slot.model, slot.name] = slot

    def remove_slot(self, model: str, name: str) -> None:
        """Forgets the slot."""
        with self._store.turn() as contents:
            contents.slots.pop((model, name), None)

    def installs(self) -> Sequence[Install]:
        """The newest install of every slot."""
        with self._store.turn() as contents:
            return [contents.installs[key] for key in sorted(contents.installs)]

    def save_install(self, install: Install) -> None:
        """Replaces the install of that model and slot."""
        with self._store.turn() as contents:
            contents.installs[install.model, install.slot] = install

    def remove_install(self, model: str, slot: str) -> None:
        """Forgets the install."""
        with self._store.turn() as contents:
            contents.installs.pop((model, slot), None)

    def quarantine(self, failed: Quarantine) -> None:
        """Remembers that this version failed here; keeps what it knows if that refuses the attempt."""
        with self._store.turn() as contents:
            known = contents.quarantine.get(failed.manifest_sha256)
            if known is None or not known.refuses(failed.rollout, failed.attempt):
                contents.quarantine[failed.manifest_sha256] = failed

    def quarantines(self) -> Sequence[Quarantine]:
        """Every version that failed here, the oldest failure first."""
        with self._store.turn() as contents:
            return sorted(
                contents.quarantine.values(), key=lambda one: (one.at, one.manifest_sha256)
            )

    def quarantined(self, manifest_sha256: str) -> Quarantine | None:
        """Why this version failed here, or None."""
        with self._store.turn() as contents:
            return contents.quarantine.get(manifest_sha256)

    def lift_quarantine(self, manifest_sha256: str) -> None:
        """Lets the version be tried again."""
        with self._store.turn() as contents:
            contents.quarantine.pop(manifest_sha256, None)


class MemorySpool:
    """See ``Spool``."""

    def __init__(self, store: "MemoryDeviceStore", limits: SpoolLimits) -> None:
        self._store = store
        self._limits = limits

    @property
    def spool_id(self) -> str:
        """The store's name: a simulation knows no chance but its own."""
        return self._store.name

    def put(self, kind: str, payload: bytes, recorded_ms: int) -> int:
        """The record's sequence. Drops and counts what no longer fits."""
        check_kind(kind)
        with self._store.turn() as contents:
            contents.sequence += 1
            sequence = contents.sequence
            if len(payload) > self._limits.size:
                contents.dropped[kind] = contents.dropped.get(kind, 0) + 1
            else:
                contents.spool[sequence] = SpoolRecord(sequence, kind, recorded_ms, payload)
                self._make_room(contents)
            return sequence

    def batch(self, records: int, size: int) -> Sequence[SpoolRecord]:
        """The oldest records: at most so many, and so many bytes unless the first is larger."""
        taken: list[SpoolRecord] = []
        with self._store.turn() as contents:
            for record in list(contents.spool.values())[:records]:
                size -= len(record.payload)
                if size < 0 and taken:
                    break
                taken.append(record)
        return taken

    def forget(self, through: int) -> None:
        """Removes every record up to and with that sequence."""
        with self._store.turn() as contents:
            contents.spool = {at: one for at, one in contents.spool.items() if at > through}

    def dropped(self) -> Mapping[str, int]:
        """How many of each kind were dropped since the spool was made."""
        with self._store.turn() as contents:
            return dict(contents.dropped)

    def __len__(self) -> int:
        """How many records wait."""
        with self._store.turn() as contents:
            return len(contents.spool)

    def _make_room(self, contents: Contents) -> None:
        totals = Totals()
        for record in contents.spool.values():
            totals.add(record.kind, 1, len(record.payload))
        while (kind := next_to_go(totals, self._limits)) is not None:
            oldest = next(one for one in contents.spool.values() if one.kind == kind)
            totals.add(kind, -1, -len(oldest.payload))
            del contents.spool[oldest.sequence]
            contents.dropped[kind] = contents.dropped.get(kind, 0) + 1


class MemoryWindowStore:
    """See ``WindowStore``."""

    def __init__(self, store: "MemoryDeviceStore") -> None:
        self._store = store

    def checkpoints(self) -> Mapping[str, bytes]:
        """Open windows by key, as last saved."""
        with self._store.turn() as contents:
            return dict(contents.windows)

    def checkpoint(self, key: str, window: bytes) -> None:
        """Saves an open window."""
        with self._store.turn() as contents:
            contents.windows[key] = window

    def discard(self, key: str) -> None:
        """Forgets an open window."""
        with self._store.turn() as contents:
            contents.windows.pop(key, None)


class MemoryJournalStore:
    """See ``JournalStore``."""

    def __init__(self, store: "MemoryDeviceStore") -> None:
        self._store = store

    def load(self) -> Journal:
        """The journal."""
        with self._store.turn() as contents:
            return contents.journal

    def save(self, journal: Journal) -> None:
        """Replaces all of it at once."""
        with self._store.turn() as contents:
            contents.journal = journal


class MemoryDeviceStore:
    """See ``DeviceStore``. ``contents`` is its disk: give it to another one to restart with it."""

    def __init__(
        self,
        limits: SpoolLimits = DEFAULT_LIMITS,
        *,
        contents: Contents | None = None,
        name: str = "memory",
    ) -> None:
        self.contents = contents or Contents()
        self.name = name
        self.identity = MemoryIdentityStore(self)
        self.trust = MemoryTrustStore(self)
        self.installs = MemoryInstallStore(self)
        self.spool = MemorySpool(self, limits)
        self.windows = MemoryWindowStore(self)
        self.journal = MemoryJournalStore(self)
        self._turn = threading.RLock()
        self._in_transaction = False
        self._closed = False

    @contextlib.contextmanager
    def turn(self) -> Iterator[Contents]:
        """The contents, for this thread alone."""
        with self._turn:
            if self._closed:
                raise StoreError("the store is closed")
            yield self.contents

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block are kept together, or none is. May not be nested."""
        with self.turn() as contents:
            if self._in_transaction:
                raise RuntimeError("a transaction in a transaction")
            before = contents.copied()
            self._in_transaction, done = True, False
            try:
                yield
                done = True
            finally:
                self._in_transaction = False
                if not done:
                    vars(contents).update(vars(before))

    def close(self) -> None:
        """Closes the store. May be called twice."""
        self._closed = True
