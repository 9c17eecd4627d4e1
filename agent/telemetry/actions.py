"""What the agent is asked to tell: signed reports and events, into the spool."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.clock import Clock
from agent.install.record import Install, Slot
from agent.store.device_store import DeviceStore
from agent.telemetry.record import Severity, event_record, report_record
from protos.documents import Report
from protos.envelope import seal
from protos.keys import Signer


class BuildReport(Protocol):
    """Makes the report of this moment: ``agent.install.report.report``, the rest filled in."""

    def __call__(
        self,
        *,
        counter: int,
        generation: int,
        reported_at: int,
        slots: Sequence[Slot],
        installs: Sequence[Install],
    ) -> Report:
        """The report, not yet signed; ``reported_at`` is Unix seconds."""
        ...


class Reporter:
    """Spools what the controller must learn soon.

    Its methods open a transaction of their own and wait for the disk: call them outside of one, and
    not on the event loop's thread: ``ReportLoop`` does.
    """

    def __init__(
        self,
        store: DeviceStore,
        signer: Signer,
        build: BuildReport,
        clock: Clock,
    ) -> None:
        self._store = store
        self._signer = signer
        self._build = build
        self._clock = clock

    def report(self) -> int:
        """Signs and spools what the device runs now; returns the report's counter.

        Counter, slots, installs and the spooled record are of one transaction: a report never tells
        of a state that was not, and no counter is signed twice.

        Raises:
            StoreError, DiskFull: nothing was spooled.
        """
        now = self._clock.now().timestamp()
        with self._store.transaction():
            counter = self._store.identity.next_counter()
            report = self._build(
                counter=counter,
                generation=self._store.installs.generation(),
                reported_at=int(now),
                slots=self._store.installs.slots(),
                installs=self._store.installs.installs(),
            )
            recorded_ms = int(1000 * now)
            payload = report_record(seal(report, self._signer), recorded_ms)
            self._store.spool.put("report", payload, recorded_ms)
        return counter

    def event(
        self,
        name: str,
        severity: Severity = "info",
        *,
        model: str = "",
        version: int = 0,
        code: str = "",
        detail: str = "",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """Spools something that happened, by its name: "install.committed".

        Raises:
            StoreError, DiskFull: nothing was spooled.
        """
        recorded_ms = int(1000 * self._clock.now().timestamp())
        payload = event_record(
            name,
            severity,
            recorded_ms,
            model=model,
            version=version,
            code=code,
            detail=detail,
            fields=fields,
        )
        self._store.spool.put("event", payload, recorded_ms)
