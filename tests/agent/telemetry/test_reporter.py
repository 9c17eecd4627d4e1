"""Reports are signed and spooled in one transaction, off the event loop, and the sender is woken."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import DiskFull
from agent.identity.keys import generate_key, public_key, signer, verifier
from agent.install.record import Deployed, Install, Slot
from agent.install.report import report as build_report
from agent.store.device_store import DeviceStore
from agent.store.sqlite_store import SqliteStore
from agent.telemetry.actions import Reporter
from agent.telemetry.loop import ReportLoop
from protos.documents import Report
from protos.envelope import unseal
from protos.v1 import telemetry_pb2
from simulations.memory_device_store import MemoryDeviceStore

KEY = generate_key()
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class StandingClock(SystemClock):
    def now(self) -> datetime:
        return NOW


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DeviceStore]:
    opened: DeviceStore
    opened = MemoryDeviceStore() if request.param == "memory" else SqliteStore(tmp_path)
    yield opened
    opened.close()


def build(
    *,
    counter: int,
    generation: int,
    reported_at: int,
    slots: Sequence[Slot],
    installs: Sequence[Install],
) -> Report:
    return build_report(
        device="dev-1",
        agent_version="1",
        loaded={("digits", "champion"): "b" * 64},
        counter=counter,
        generation=generation,
        reported_at=reported_at,
        slots=slots,
        installs=installs,
    )


def spooled(store: DeviceStore) -> list[telemetry_pb2.Record]:
    return [telemetry_pb2.Record.FromString(one.payload) for one in store.spool.batch(99, 10**6)]


def test_a_report_of_the_slots_is_signed_by_the_device_and_spooled(store: DeviceStore) -> None:
    version = Deployed("digits", 3, "a" * 64, "b" * 64, 3, 2)
    store.installs.save_slot(Slot("digits", "champion", active=version, committed=version))
    store.installs.save_directive(b"directive", 7)
    counter = Reporter(store, signer(KEY), build, StandingClock()).report()

    (record,) = spooled(store)
    envelope = record.report.SerializeToString()
    told = unseal(envelope, Report, [verifier(public_key(KEY))])
    assert (told.device, told.counter, told.generation) == ("dev-1", counter, 7)
    assert told.reported_at == int(NOW.timestamp())
    assert [(one.version, one.model_sha256) for one in told.running] == [(3, "b" * 64)]
    assert record.recorded_ms == int(NOW.timestamp()) * 1000


def test_counters_only_grow(store: DeviceStore) -> None:
    reporter = Reporter(store, signer(KEY), build, StandingClock())

    assert [reporter.report() for _ in range(3)] == [1, 2, 3]


def test_a_report_that_can_not_be_built_leaves_nothing_behind(store: DeviceStore) -> None:
    def broken(
        *,
        counter: int,
        generation: int,
        reported_at: int,
        slots: Sequence[Slot],
        installs: Sequence[Install],
    ) -> Report:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        Reporter(store, signer(KEY), broken, StandingClock()).report()

    assert len(store.spool) == 0
    assert store.identity.next_counter() == 1


def test_events_are_spooled_with_what_a_person_would_ask_next(store: DeviceStore) -> None:
    Reporter(store, signer(KEY), build, StandingClock()).event(
        "install.failed",
        "error",
        model="digits",
        version=3,
        code="hash-mismatch",
        detail="x" * 9_000,
        fields={"free": "12"},
    )

    (record,) = spooled(store)
    assert record.event.name == "install.failed"
    assert record.event.code == "hash-mismatch"
    assert record.event.fields == {"free": "12"}
    assert len(record.event.detail) == 2_000


class SlowDisk(MemoryDeviceStore):
    """Waits for ``gate`` before every transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        assert self.gate.wait(10)
        with super().transaction():
            yield


class FullDisk(MemoryDeviceStore):
    """Has no room for the first report."""

    full = True

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        if self.full:
            self.full = False
            raise DiskFull("no room")
        with super().transaction():
            yield


@contextlib.asynccontextmanager
async def telling(store: DeviceStore, woken: asyncio.Event) -> AsyncIterator[ReportLoop]:
    loop = ReportLoop(Reporter(store, signer(KEY), build, StandingClock()), woken.set)
    task = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(10):
            yield loop
    finally:
        task.cancel()
        await asyncio.wait([task])


def kinds(store: DeviceStore) -> list[str | None]:
    return [one.WhichOneof("kind") for one in spooled(store)]


async def test_who_tells_does_not_wait_for_the_disk_and_the_order_is_kept() -> None:
    store, woken = SlowDisk(), asyncio.Event()
    async with telling(store, woken) as reports:
        reports.report()
        reports.event("install.committed", model="digits", version=3)
        reports.report()
        await asyncio.sleep(0)
        assert kinds(store) == []

        store.gate.set()
        await reports.flush()

    assert kinds(store) == ["report", "event", "report"]
    assert woken.is_set()


async def test_what_was_being_written_when_the_loop_ended_is_told_once_and_the_rest_by_a_flush() -> (
    None
):
    store, woken = SlowDisk(), asyncio.Event()
    async with telling(store, woken) as reports:
        reports.report()
        reports.event("install.committed")
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0, store.gate.set)

    await reports.flush()

    assert kinds(store) == ["report", "event"]


async def test_what_can_not_be_written_keeps_nothing_behind_it_back() -> None:
    store, woken = FullDisk(), asyncio.Event()
    async with telling(store, woken) as reports:
        reports.report()
        reports.event("install.failed", "disk-full", "no room")
        await woken.wait()
        await reports.flush()

    assert kinds(store) == ["event"]
    assert [one.event.severity for one in spooled(store)] == ["error"]
