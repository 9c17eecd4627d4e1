"""The seam between the controller and its database.

``Store.begin()`` gives a transaction with one small table per feature; all of it happens or none.
``Store.read()`` gives the same tables, to read only: who only reads waits for no writer.
Calls block: async code runs whole transactions on a thread.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from controller.access.operator import Operator
from controller.audit import Entry, Record
from controller.enrolment.token import JoinToken
from controller.fleet.device import Device, SlotState
from controller.fleet_config.applied import AppliedFleet
from controller.monitor.estimator import Estimator
from controller.monitor.total import Sums, Total
from controller.registry.version import Model, Pending, Version
from controller.store.federated_tables import Runs, Tasks
from controller.store.incident_tables import Incidents
from controller.store.rollout_tables import Changes, Rollouts, Stages
from controller.telemetry.record import (
    Rejections,
    StoredEvent,
    StoredReport,
    StoredResources,
    StoredWindow,
    WindowHead,
)

METADATA_KEPT: Final = 10
ONLINE_ROLES: Final = frozenset({"timestamp", "snapshot"})


class Devices(Protocol):
    """Enrolled machines and what they run."""

    def get(self, device: str) -> Device | None: ...  # noqa: D102
    def all(self) -> Sequence[Device]: ...  # noqa: D102
    def put(self, device: Device) -> None: ...  # noqa: D102

    def touch(self, device: str, last_seen: float, *, connected: bool) -> None:
        """Notes presence only, and the time online: ``controller.fleet.presence.seen``."""
        ...

    def disconnect_all(self, spare: Collection[str] = ()) -> None:
        """Links of a controller that is gone: each was last known of when it was last seen.

        ``spare`` are devices that have a link by now.
        """
        ...

    def slots(self, device: str | None = None) -> Sequence[SlotState]:
        """What the reports say, of one device or of all."""
        ...

    def replace_slots(self, device: str, slots: Iterable[SlotState]) -> None:
        """All of the device's slots: a report says everything."""
        ...


class Tokens(Protocol):
    """Join tokens."""

    def get(self, token: str) -> JoinToken | None: ...  # noqa: D102
    def all(self) -> Sequence[JoinToken]: ...  # noqa: D102
    def put(self, token: JoinToken) -> None: ...  # noqa: D102


class Operators(Protocol):
    """Who may use the controller."""

    def by_token(self, token_sha256: str) -> Operator | None: ...  # noqa: D102
    def get(self, name: str) -> Operator | None: ...  # noqa: D102
    def all(self) -> Sequence[Operator]: ...  # noqa: D102
    def put(self, operator: Operator) -> None: ...  # noqa: D102


class Registry(Protocol):
    """Models, versions, aliases and what waits for signatures."""

    def model(self, name: str) -> Model | None: ...  # noqa: D102
    def models(self) -> Sequence[Model]: ...  # noqa: D102
    def put_model(self, model: Model) -> None: ...  # noqa: D102
    def version(self, model: str, version: int) -> Version | None: ...  # noqa: D102
    def versions(self, model: str | None = None) -> Sequence[Version]:
        """By model and version, ascending."""
        ...

    def put_version(self, version: Version) -> None: ...  # noqa: D102
    def pending(self, model: str, version: int) -> Pending | None: ...  # noqa: D102
    def all_pending(self, model: str | None = None) -> Sequence[Pending]: ...  # noqa: D102
    def put_pending(self, pending: Pending) -> None: ...  # noqa: D102
    def remove_pending(self, model: str, version: int) -> None: ...  # noqa: D102
    def aliases(self, model: str) -> Mapping[str, int]:
        """Versions by alias: "champion" → 3."""
        ...

    def put_alias(self, model: str, alias: str, version: int) -> None: ...  # noqa: D102
    def remove_alias(self, model: str, alias: str) -> None: ...  # noqa: D102


class ImageMetadata(Protocol):
    """The TUF repository: every version of every role's metadata, and which is current."""

    def get(self, name: str) -> bytes | None:
        """By file name: "3.root.json", "timestamp.json", "7.models-digits.json"."""
        ...

    def current(self, role: str) -> bytes | None:
        """The newest metadata of a role."""
        ...

    def put(self, role: str, version: int, metadata: bytes) -> None:
        """Stores it and makes it current. What only this controller signs is kept in few versions.

        ``METADATA_KEPT`` newest ones of timestamp and snapshot: a device that is in the middle of an
        update may still ask for the one before. Every version of what people sign stays.
        """
        ...


class Fleets(Protocol):
    """The newest file of every fleet."""

    def get(self, fleet: str) -> AppliedFleet | None: ...  # noqa: D102
    def all(self) -> Sequence[AppliedFleet]:
        """By name."""
        ...

    def put(self, applied: AppliedFleet) -> None:
        """Inserts or replaces."""
        ...


class Telemetry(Protocol):
    """What devices told, each record once."""

    def stored_through(self, device: str, spool: str) -> int:
        """The highest sequence of which, and of all below it, nothing needs to be sent again."""
        ...

    def advance(self, device: str, spool: str, through: int, dropped: Mapping[str, int]) -> None:
        """Raises ``stored_through``; in the same transaction as the records."""
        ...

    def dropped(self, device: str | None = None) -> Mapping[str, int]:
        """How many records of each kind the device, or all devices, dropped, over all spools."""
        ...

    def add_windows(self, windows: Sequence[StoredWindow]) -> Sequence[StoredWindow]:
        """Returns those that were not there yet."""
        ...

    def add_events(self, events: Sequence[StoredEvent]) -> None: ...  # noqa: D102
    def add_resources(self, resources: Sequence[StoredResources]) -> None: ...  # noqa: D102
    def add_report(self, report: StoredReport) -> None: ...  # noqa: D102
    def windows(
        self, model: str, version: int | None = None, device: str | None = None, since_ms: int = 0
    ) -> Sequence[StoredWindow]:
        """By end, ascending."""
        ...

    def newest_windows(
        self, model: str, version: int, profile_sha256: str, rows: int, since_ms: int = 0
    ) -> Sequence[StoredWindow]:
        """Of each device its newest windows of this version and profile, by device, newest first.

        As few as have ``rows`` together; all if all have fewer. It takes no longer the more windows
        are stored.
        """
        ...

    def newest_heads(self, model: str, version: int, since_ms: int = 0) -> Sequence[WindowHead]:
        """Of each device its newest window of this version if it ended since then, by device."""
        ...

    def window_count(
        self, model: str | None = None, version: int | None = None, since_ms: int = 0
    ) -> int:
        """Of all models, or of one and its version, that ended since then."""
        ...

    def events(self, device: str | None = None, limit: int = 100) -> Sequence[StoredEvent]:
        """Newest first."""
        ...

    def resources(self, device: str, limit: int = 1) -> Sequence[StoredResources]:
        """Newest first."""
        ...

    def reports(self, device: str, limit: int = 100) -> Sequence[StoredReport]:
        """Newest first."""
        ...


class Totals(Protocol):
    """What devices have told of each version in all, upload after upload: what gates judge by."""

    def estimator(self, model: str, version: int) -> Estimator | None: ...  # noqa: D102
    def put_estimator(self, model: str, version: int, estimator: Estimator) -> None: ...  # noqa: D102
    def last(self, device: str, model: str, version: int) -> Total | None:
        """The newest one."""
        ...

    def add(self, total: Total) -> None:
        """It ends later than what is there of its device and version.

        Raises:
            Conflict: one that ends then is there.
        """
        ...

    def since(self, model: str, version: int, ends: Mapping[str, int]) -> Mapping[str, Sums]:
        """By device, what it told in windows that ended after the time that ``ends`` has for it.

        In milliseconds. Windows that were uploaded together count together, by the last of them.
        Devices that told nothing since are left out. It takes no longer the more windows are stored.
        """
        ...


class Retention(Protocol):
    """Ends of what devices told."""

    def expire(self, before_ms: int, most: int) -> int:
        """Removes windows, totals, events and readings that ended before, ``most`` at once.

        Returns how many: fewer than ``most`` if there are no others.
        """
        ...

    def trim_reports(self, device: str, keep: int, most: int) -> int:
        """Removes reports of a device beyond its ``keep`` newest, ``most`` at once; how many."""
        ...


class Audit(Protocol):
    """The append-only chain."""

    def append(self, entry: Entry, at_ms: int) -> Record: ...  # noqa: D102
    def last(self) -> Record | None: ...  # noqa: D102
    def records(self, after: int = 0, limit: int = 1000) -> Sequence[Record]:
        """By sequence, ascending."""
        ...

    def rejections(self, device: str, action: str) -> Rejections | None:
        """What the chain has not been told of the device's bad records of this kind."""
        ...

    def put_rejections(self, rejections: Rejections) -> None: ...  # noqa: D102


class Leases(Protocol):
    """Which of several controllers on this database may do what only one may: ``controller.lease``."""

    def acquire(self, name: str, holder: str, now: float, seconds: float) -> bool:
        """Takes or renews the lease until ``now + seconds``; False if another holds it.

        Ask in the transaction that acts, so that whoever has lost it meanwhile writes nothing.
        """
        ...

    def holder(self, name: str, now: float) -> str | None:
        """Who holds the lease; None if nobody does, or whoever did has let it run out."""
        ...

    def release(self, name: str, holder: str) -> None:
        """Others need not wait until it runs out. Nothing happens to a lease of somebody else."""
        ...


class Transaction(Protocol):
    """One transaction: what its tables write becomes durable together when its block ends well."""

    @property
    def devices(self) -> Devices: ...  # noqa: D102
    @property
    def tokens(self) -> Tokens: ...  # noqa: D102
    @property
    def operators(self) -> Operators: ...  # noqa: D102
    @property
    def registry(self) -> Registry: ...  # noqa: D102
    @property
    def metadata(self) -> ImageMetadata: ...  # noqa: D102
    @property
    def rollouts(self) -> Rollouts: ...  # noqa: D102
    @property
    def fleets(self) -> Fleets: ...  # noqa: D102
    @property
    def stages(self) -> Stages: ...  # noqa: D102
    @property
    def telemetry(self) -> Telemetry: ...  # noqa: D102
    @property
    def totals(self) -> Totals: ...  # noqa: D102
    @property
    def retention(self) -> Retention: ...  # noqa: D102
    @property
    def audit(self) -> Audit: ...  # noqa: D102
    @property
    def leases(self) -> Leases: ...  # noqa: D102
    @property
    def changes(self) -> Changes: ...  # noqa: D102
    @property
    def runs(self) -> Runs: ...  # noqa: D102
    @property
    def tasks(self) -> Tasks: ...  # noqa: D102
    @property
    def incidents(self) -> Incidents: ...  # noqa: D102


class Store(Protocol):
    """The controller's database. No thread may open a transaction inside another."""

    def begin(self) -> AbstractContextManager[Transaction]:
        """A transaction: committed when the block ends, rolled back when it raises.

        Raises:
            StoreError: the database can't be read or written.
        """
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """Everything as it was at one moment between two transactions. Writing in it is refused.

        Raises:
            StoreError: the database can't be read, or something was to be written.
        """
        ...

    def close(self) -> None:
        """Closes the database. May be called twice."""
        ...
